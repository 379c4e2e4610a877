"""Loops that have become steady are extrapolated, and only as far as is proven.

An iteration's path is a number: its segments, predicates, and DMA sizes. When the last
iterations repeat with a period, scalars change by the same amount each period. Every
comparison, mask and shift of a period was noted with its operands: the jump ends before
the first of them could come out differently. What cannot be continued in a straight
line (loads from a moving address, as in ragged kernels) forbids the jump.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from backends.tpu.profile.dma import Dma
from backends.tpu.profile.scalar import Machine
from backends.tpu.profile.unknown import Unknown

_LEAST_GAIN = 32
_MOST_TRIES = 24
_MOST_NOTES = 200_000
_LONGEST = 4096
_WORD = 1 << 32
_STEADY = 0.002


class Running(Protocol):
    """The part of a run that a jump moves."""

    machine: Machine
    dma: Dma
    now: int
    state: int
    stored: int
    totals: list[int]
    dma_stall: int
    path: int
    notes: set[str]


@dataclass(frozen=True)
class Iteration:
    """The state on arrival at a loop's head, and the path that led there."""

    path: int
    now: int
    totals: tuple[int, ...]
    scalars: dict[Any, Any]
    record: list[tuple[Any, Any, str]]


@dataclass
class History:
    """The iterations of one loop since it was last entered or jumped in."""

    iterations: list[Iteration] = field(default_factory=list)


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
        # Loops inside this one have ended: what they did is part of its path.
        for inner in [each for each in self._history if each > head]:
            del self._history[inner]
        history = self._history.setdefault(head, History())
        iteration = self._snapshot()
        history.iterations.append(iteration)
        # A jump becomes part of the next iteration's path, so that the sweeps of an
        # inner grid axis are found to repeat in their turn.
        any(self._jump(history, period) for period in self._periods(history))

    def _snapshot(self) -> Iteration:
        run = self._run
        machine = run.machine
        scalars: dict[Any, Any] = dict(machine.registers)
        scalars.update(machine.memory.words)
        path, run.path = run.path, 0
        record = list(machine.record)
        machine.record.clear()
        extra = (run.dma_stall, run.dma.hbm_read, run.dma.hbm_written, run.dma.started)
        totals = (*extra, *run.totals)
        return Iteration(path, run.now, totals, scalars, record)

    def _periods(self, history: History) -> Iterator[int]:
        """Periods that the last three periods show, the shortest first."""
        its = history.iterations
        if len(its) > 3 * _LONGEST + 8:
            del its[: len(its) - 3 * _LONGEST - 4]
        newest = its[-1].path
        tried = 0
        for period in range(1, min(_LONGEST, (len(its) - 1) // 3) + 1):
            if its[-1 - period].path != newest:
                continue
            tried += 1
            if self._repeats(its, period):
                yield period
            if tried > _MOST_TRIES:
                return

    def _repeats(self, its: list[Iteration], period: int) -> bool:
        for index in range(1, 2 * period + 1):
            if its[-index].path != its[-index - period].path:
                return False
        last = its[-1].now - its[-1 - period].now
        before = its[-1 - period].now - its[-1 - 2 * period].now
        return abs(last - before) <= max(1, _STEADY * last)

    def _jump(self, history: History, period: int) -> bool:
        its = history.iterations
        newest, middle, oldest = its[-1], its[-1 - period], its[-1 - 2 * period]
        steps = _steps(newest.scalars, middle.scalars, oldest.scalars)
        if steps is None:
            return False
        last = [note for each in its[-period:] for note in each.record]
        before = [note for each in its[-2 * period : -period] for note in each.record]
        count = _count(last, before)
        if count * period < _LEAST_GAIN:
            return False
        self._apply(newest, middle, steps, count)
        self._run.machine.record.extend(_ends(last, before, count))
        return True

    def _apply(
        self, newest: Iteration, middle: Iteration, steps: dict[Any, int], count: int
    ) -> None:
        run = self._run
        for key, step in steps.items():
            held = run.machine.registers if isinstance(key, str) else None
            words = run.machine.memory.words if held is None else held
            words[key] = (newest.scalars[key] + count * step) % _WORD
        passed = count * (newest.now - middle.now)
        run.now += passed
        run.stored += passed
        run.dma.shift(passed)
        self._jumped += passed
        change = [b - a for a, b in zip(middle.totals, newest.totals, strict=False)]
        run.dma_stall += count * change[0]
        run.dma.hbm_read += count * change[1]
        run.dma.hbm_written += count * change[2]
        run.dma.started += count * change[3]
        for index, value in enumerate(change[4:]):
            run.totals[index] += count * value
        run.path = hash((newest.path, count))


def _steps(
    newest: dict[Any, Any], middle: dict[Any, Any], oldest: dict[Any, Any]
) -> dict[Any, int] | None:
    """What each scalar changes by in a period; None where they do not agree."""
    steps = {}
    for key, value in newest.items():
        first, second = middle.get(key), oldest.get(key)
        if isinstance(value, (Unknown, bool)) or isinstance(first, (Unknown, bool)):
            continue
        if first is None or second is None or isinstance(second, (Unknown, bool)):
            return None
        step = (value - first) % _WORD
        if step != (first - second) % _WORD:
            return None
        if step:
            steps[key] = step if step < _WORD // 2 else step - _WORD
    return steps


def _count(last: list[tuple[Any, Any, str]], before: list[tuple[Any, Any, str]]) -> int:
    """How many more periods come out as the last one did."""
    if len(last) != len(before) or len(last) > _MOST_NOTES:
        return 0
    count = 1 << 40
    for (a, b, kind), (c, d, _) in zip(last, before, strict=True):
        if isinstance(a, Unknown) or isinstance(b, Unknown):
            continue
        if a == c and b == d:
            continue
        count = min(count, _LIMITS[kind](a, b, a - c, b - d))
        if count <= 0:
            return 0
    return count if count < 1 << 40 else 0


def _order(a: int, b: int, da: int, db: int) -> int:
    """Periods for which `a - b` keeps its sign."""
    gap, change = a - b, da - db
    if gap == 0:
        return 0 if change else 1 << 40
    if change == 0 or (gap > 0) == (change > 0):
        return 1 << 40
    return (abs(gap) - 1) // abs(change)


def _within(value: int, change: int, modulus: int) -> int:
    """Periods for which `value` stays in its block of `modulus`."""
    if change % modulus == 0:
        return 1 << 40
    room = modulus - 1 - value % modulus if change > 0 else value % modulus
    return room // abs(change)


def _mask(a: int, b: int, da: int, db: int) -> int:
    if da and db:
        return 0
    value, change, mask = (a, da, b) if da else (b, db, a)
    return _within(value, change, 1 << mask.bit_length()) if mask else 1 << 40


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
    return 1 << 40 if not db and b and da % b == 0 else 0


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


def _ends(
    last: list[tuple[Any, Any, str]], before: list[tuple[Any, Any, str]], count: int
) -> list[tuple[Any, Any, str]]:
    """The notes of the jump's first and last period: an outer loop rests on both."""
    far = []
    for (a, b, kind), (c, d, _) in zip(last, before, strict=True):
        known = not (isinstance(a, Unknown) or isinstance(b, Unknown))
        end = (a + count * (a - c), b + count * (b - d)) if known else (a, b)
        far.append((*end, kind))
    return [*last, *far]
