"""Loops that have become steady are extrapolated, and only as far as is proven.

An iteration's path is a number: its segments, predicates, and DMA sizes. When the last
iterations repeat with a period, scalars change by the same amount each period. Every
comparison, mask and shift of a period was noted with its operands: the jump ends before
the first of them could come out differently. Loads from a moving address, as in ragged
kernels, are followed as far as the supplied words lie on a straight line. What cannot
be continued in one forbids the jump.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from backends.tpu.profile.counters import Counters, Counts
from backends.tpu.profile.dma import Dma
from backends.tpu.profile.scalar import Machine, Memory
from backends.tpu.profile.unknown import Unknown

_LEAST_GAIN = 32
_MOST_TRIES = 24
_MOST_NOTES = 200_000
_LONGEST = 4096
_LONGEST_PAUSE = 512
_WORD = 1 << 32
_FOREVER = 1 << 40
_STEADY = 0.002

Note: TypeAlias = tuple[Any, Any, str]


class Running(Protocol):
    """The part of a run that a jump moves."""

    machine: Machine
    dma: Dma
    counters: Counters
    now: int
    state: int
    stored: int
    path: int
    notes: set[str]


@dataclass(frozen=True)
class Iteration:
    """The state on arrival at a loop's head, and the path that led there.

    `scalars` are the values of the registers and of the words that were stored, in the
    order of their first use; `layout` tells whether two of them have the same order.
    """

    path: int
    now: int
    moved: tuple[int, int, int]
    counts: Counts
    scalars: tuple[Any, ...]
    layout: tuple[int, ...]
    record: list[Note]


@dataclass
class History:
    """The iterations of one loop since it was last entered.

    `seen` are the last places of each path, by number of arrival. `path` and `record`
    gather all that happened, for the loop around this one. `pauses` holds for each
    path after how many more arrivals by it a jump is tried again, and the pause then:
    the first steps of a sweep come by paths of their own, and are not kept waiting.
    """

    iterations: list[Iteration] = field(default_factory=list)
    seen: dict[int, deque[int]] = field(default_factory=dict)
    arrivals: int = 0
    path: int = 0
    record: list[Note] = field(default_factory=list)
    pauses: dict[int, tuple[int, int]] = field(default_factory=dict)

    def add(self, iteration: Iteration) -> None:
        """One more arrival."""
        self.iterations.append(iteration)
        if len(self.iterations) > 4 * _LONGEST:
            del self.iterations[:_LONGEST]
        places = self.seen.setdefault(iteration.path, deque(maxlen=_MOST_TRIES + 1))
        places.append(self.arrivals)
        self.arrivals += 1
        self.path = hash((self.path, iteration.path))
        if len(self.record) <= _MOST_NOTES:
            self.record += iteration.record

    def periods(self) -> Iterator[int]:
        """Periods that the last three periods show, the shortest first."""
        its = self.iterations
        for place in reversed(self.seen[its[-1].path]):
            period = self.arrivals - 1 - place
            if 3 * period >= len(its) or period > _LONGEST:
                return
            if period and _repeats(its, period):
                yield period


class Loops:
    """Watches the loop heads of a run, and jumps ahead where it may."""

    def __init__(self, run: Running) -> None:
        self._run = run
        self._history: dict[int, History] = {}
        self._jumped = 0

    def simulated(self, cycles: int) -> float:
        """The share of the cycles that was simulated, not extrapolated."""
        return 1 - self._jumped / cycles

    def arrive(self, head: int) -> None:
        """A backward branch to `head` was taken."""
        self._leave(head)
        history = self._history.setdefault(head, History())
        iteration = self._snapshot()
        history.add(iteration)
        left, pause = history.pauses.get(iteration.path, (0, 1))
        if left:
            history.pauses[iteration.path] = left - 1, pause
            return
        # A jump becomes part of the next iteration's path, so that the sweeps of an
        # inner grid axis are found to repeat in their turn.
        periods = list(history.periods())
        if any(self._jump(history, period) for period in periods):
            history.pauses.pop(iteration.path, None)
        elif periods:
            history.pauses[iteration.path] = pause, min(2 * pause, _LONGEST_PAUSE)

    def _leave(self, head: int) -> None:
        """Loops inside this one have ended: what they did is part of its path."""
        run = self._run
        for inner in sorted(each for each in self._history if each > head):
            ended = self._history.pop(inner)
            run.path = hash((ended.path, run.path))
            run.machine.record[:0] = ended.record

    def _snapshot(self) -> Iteration:
        run = self._run
        machine = run.machine
        words = machine.memory.words
        scalars = (*machine.registers.values(), *words.values())
        layout = (len(machine.registers), len(words), machine.memory.filled)
        path, run.path = run.path, 0
        record = list(machine.record)
        machine.record.clear()
        moved = run.dma.hbm_read, run.dma.hbm_written, run.dma.started
        counts = run.counters.freeze()
        return Iteration(path, run.now, moved, counts, scalars, layout, record)

    def _jump(self, history: History, period: int) -> bool:
        its = history.iterations
        newest, middle, oldest = its[-1], its[-1 - period], its[-1 - 2 * period]
        last = [note for each in its[-period:] for note in each.record]
        before = [note for each in its[-2 * period : -period] for note in each.record]
        count = _count(last, before, self._run.machine.memory)
        if count * period < _LEAST_GAIN:
            return False
        steps = _steps(newest, middle, oldest)
        if steps is None:
            return False
        self._apply(newest, middle, steps, count)
        self._run.machine.record.extend(_ends(last, before, count))
        return True

    def _apply(
        self, newest: Iteration, middle: Iteration, steps: list[int], count: int
    ) -> None:
        run = self._run
        for held, moves in (
            (run.machine.registers, steps[: newest.layout[0]]),
            (run.machine.memory.words, steps[newest.layout[0] :]),
        ):
            _advance(held, moves, count)
        passed = count * (newest.now - middle.now)
        run.now += passed
        run.stored += passed
        run.dma.shift(passed)
        self._jumped += passed
        run.counters.repeat(newest.counts, middle.counts, count)
        read, written, started = (
            b - a for a, b in zip(middle.moved, newest.moved, strict=True)
        )
        run.dma.hbm_read += count * read
        run.dma.hbm_written += count * written
        run.dma.started += count * started
        run.path = hash((newest.path, count))


def _advance(held: dict[Any, Any], moves: list[int], count: int) -> None:
    for key, step in zip(held, moves, strict=True):
        if step:
            held[key] = (held[key] + count * step) % _WORD


def _repeats(its: list[Iteration], period: int) -> bool:
    """Whether the last three periods took the same path, in the same time."""
    for index in range(1, 2 * period + 1):
        if its[-index].path != its[-index - period].path:
            return False
    last = its[-1].now - its[-1 - period].now
    before = its[-1 - period].now - its[-1 - 2 * period].now
    return abs(last - before) <= max(1, _STEADY * last)


def _steps(newest: Iteration, middle: Iteration, oldest: Iteration) -> list[int] | None:
    """What each scalar changes by in a period; None where they do not agree."""
    if not newest.layout == middle.layout == oldest.layout:
        return None
    steps = []
    for value, first, second in zip(
        newest.scalars, middle.scalars, oldest.scalars, strict=True
    ):
        step = 0
        if type(value) is int and type(first) is int and value != first:
            step = (value - first) % _WORD
            if type(second) is not int or step != (first - second) % _WORD:
                return None
        steps.append(step if step < _WORD // 2 else step - _WORD)
    return steps


def _count(last: list[Note], before: list[Note], memory: Memory) -> int:
    """How many more periods come out as the last one did."""
    if len(last) != len(before) or len(last) > _MOST_NOTES:
        return 0
    count = _FOREVER
    loads = []
    for (a, b, kind), (c, d, _) in zip(last, before, strict=True):
        if a is c and b is d:
            continue
        if kind == "load":
            loads.append((a, b, c, d))
            continue
        if isinstance(a, Unknown) or isinstance(b, Unknown) or (a == c and b == d):
            continue
        count = min(count, _LIMITS[kind](a, b, a - c, b - d))
        if count <= 0:
            return 0
    for a, b, c, d in loads:
        count = min(count, _loaded(a, b, c, d, count, memory))
    return count if count < _FOREVER else 0


def _loaded(a: Any, b: Any, c: Any, d: Any, most: int, memory: Memory) -> int:
    """Periods, at most `most`, for which loads from a moving address go on as before.

    From a place that does not move comes a word that is followed as such. Else the
    words must be supplied ones, and on a straight line as far as the jump goes.
    """
    if isinstance(a, Unknown) or isinstance(c, Unknown):
        return 0
    if a == c:
        return _FOREVER
    if type(b) is not int or type(d) is not int:
        return 0
    return memory.straight(a, b, a - c, b - d, most)


def _order(a: int, b: int, da: int, db: int) -> int:
    """Periods for which `a - b` keeps its sign."""
    gap, change = a - b, da - db
    if gap == 0:
        return 0 if change else _FOREVER
    if change == 0 or (gap > 0) == (change > 0):
        return _FOREVER
    return (abs(gap) - 1) // abs(change)


def _within(value: int, change: int, modulus: int) -> int:
    """Periods for which `value` stays in its block of `modulus`."""
    if change % modulus == 0:
        return _FOREVER
    room = modulus - 1 - value % modulus if change > 0 else value % modulus
    return room // abs(change)


def _mask(a: int, b: int, da: int, db: int) -> int:
    if da and db:
        return 0
    value, change, mask = (a, da, b) if da else (b, db, a)
    return _within(value, change, 1 << mask.bit_length()) if mask else _FOREVER


def _right(a: int, b: int, da: int, db: int) -> int:
    return 0 if db else _within(a, da, 1 << min(b, 32))


def _left(a: int, b: int, da: int, db: int) -> int:
    return 0 if db else _within(a << b, da << b, _WORD)


def _product(a: int, b: int, da: int, db: int) -> int:
    if da and db:
        return 0
    return _within(a * b, da * b + a * db, _WORD)


def _divide(_a: int, b: int, da: int, db: int) -> int:
    """A dividend that moves by whole divisors leaves the remainder as it is."""
    return _FOREVER if not db and b and da % b == 0 else 0


def _fixed(_a: int, _b: int, _da: int, _db: int) -> int:
    return 0


_LIMITS = {
    **dict.fromkeys(("<", "<=", ">", ">=", "==", "!="), _order),
    "mask": _mask,
    "right": _right,
    "left": _left,
    "product": _product,
    "divide": _divide,
    "fixed": _fixed,
}


def _ends(last: list[Note], before: list[Note], count: int) -> list[Note]:
    """The notes of the jump's first and last period: an outer loop rests on both."""
    far = []
    for (a, b, kind), (c, d, _) in zip(last, before, strict=True):
        known = type(a) is int and type(b) is int
        end = (a + count * (a - c), b + count * (b - d)) if known else (a, b)
        # What was loaded between the ends is proven for these addresses alone.
        far.append((*end, "fixed" if kind == "load" and a != c else kind))
    return [*last, *far]
