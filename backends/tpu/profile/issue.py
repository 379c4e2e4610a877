"""In-order issue: the scalar side runs ahead, vector bundles follow through a queue.

The scalar side issues a bundle a cycle, and waits for scalar results that are late.
Bundles with vector instructions enter a queue of 20 entries, each released 10 cycles
after its vector issue; they issue in order, when operands and units are ready.
(pallas-tpu-tutorial, chapters 1 and 3, measured on TPU v4.)
"""

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from backends.tpu.profile.latencies import Latencies
from backends.tpu.profile.slots import Row, Slot

STALLS = ("operand", "unit", "scalar", "queue", "fence")


class State(NamedTuple):
    """A clock relative to the scalar side's next cycle; hashable, so it can recur."""

    issued: int
    vector: int
    stored: int
    queue: tuple[int, ...]
    ready: tuple[tuple[str, int], ...]
    units: tuple[tuple[str, int], ...]
    results: tuple[tuple[int, tuple[int, ...]], ...]
    transposed: tuple[tuple[int, tuple[tuple[int, int], ...]], ...]
    started: tuple[tuple[int, int], ...]
    pushed: tuple[tuple[int, int], ...]


@dataclass
class Clock:
    """When each thing is next free or ready, in cycles.

    `issued` is the scalar side's cycle of the last vector bundle, `vector` its own.
    `ready` holds registers and tokens, `units` the first cycle at which a unit takes
    another instruction, `results` and `transposed` what waits in an MXU's or a
    cross-lane unit's own queue, `pushed` the last weights pushed.
    """

    now: int = 0
    issued: int = -1
    vector: int = -1
    stored: int = -1
    queue: deque[int] = field(default_factory=deque)
    ready: dict[str, int] = field(default_factory=dict)
    units: dict[str, int] = field(default_factory=dict)
    results: dict[int, deque[int]] = field(default_factory=dict)
    transposed: dict[int, deque[tuple[int, int]]] = field(default_factory=dict)
    started: dict[int, int] = field(default_factory=dict)
    pushed: dict[int, int] = field(default_factory=dict)
    stalls: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STALLS, 0))
    busy: dict[str, int] = field(default_factory=dict)
    bundles: int = 0

    def freeze(self) -> State:
        """The state relative to `now`; what cannot delay anything any more is left."""
        base = self.now
        return State(
            issued=max(self.issued - base, -64),
            vector=max(self.vector - base, -64),
            stored=max(self.stored - base, -64),
            queue=tuple(at - base for at in self.queue if at > base),
            ready=_later(self.ready, base, 0),
            units=_later(self.units, base, 0),
            results=tuple(
                (number, tuple(max(at - base, -1) for at in queue))
                for number, queue in sorted(self.results.items())
                if queue
            ),
            transposed=tuple(
                (number, tuple((max(at - base, -1), left) for at, left in queue))
                for number, queue in sorted(self.transposed.items())
                if queue
            ),
            started=_later(self.started, base, -256),
            pushed=_later(self.pushed, base, -64),
        )


_Key = TypeVar("_Key", str, int)


def _later(
    held: dict[_Key, int], base: int, from_: int
) -> tuple[tuple[_Key, int], ...]:
    kept = ((key, at - base) for key, at in held.items() if at - base > from_)
    return tuple(sorted(kept))


class Issue:
    """Issues the rows of segments on a clock."""

    def __init__(self, table: Latencies) -> None:
        self._entries = table.cycles("queue_entries")
        self._release = table.cycles("queue_release")
        self._fence = table.cycles("fence")
        self._push_to_multiply = table.cycles("push_to_multiply")
        self._result_interval = table.cycles("result_interval")
        self._low = table.cycles("multiply_low")
        self._high = table.cycles("multiply_high")

    def run(self, rows: tuple[Row, ...], bits: tuple[bool, ...], clock: Clock) -> None:
        """Issue the rows; `clock.now` ends at the cycle of the next bundle."""
        for row in rows:
            self._scalar(row, bits, clock)
            if row.vector:
                self._vector(row, bits, clock)
            clock.now += 1
        clock.bundles += len(rows)

    def _scalar(self, row: Row, bits: tuple[bool, ...], clock: Clock) -> None:
        at = clock.now
        for name in row.waits:
            at = max(at, clock.ready.get(name, at))
        for slot in row.scalar:
            at = max(at, clock.units.get(slot.unit, at))
        clock.stalls["scalar"] += at - clock.now
        if row.fence:
            drained = max(at, clock.vector + self._fence)
            clock.stalls["fence"] += drained - at
            at = drained
        clock.now = at + row.idle
        for slot in row.scalar:
            if slot.bit < 0 or bits[slot.bit]:
                self._finish(slot, clock.now, clock)

    def _vector(self, row: Row, bits: tuple[bool, ...], clock: Clock) -> None:
        queue = clock.queue
        while queue and queue[0] <= clock.now:
            queue.popleft()
        if len(queue) >= self._entries:
            clock.stalls["queue"] += queue[0] - clock.now
            clock.now = queue.popleft()
        soonest = max(clock.vector + 1, clock.now + row.delay)
        slots = [s for s in row.vector if s.bit < 0 or bits[s.bit]]
        operand = max((self._operands(s, clock) for s in slots), default=soonest)
        unit = max((clock.units.get(s.unit, 0) for s in slots if s.unit), default=0)
        at = max(soonest, operand, unit)
        clock.stalls["unit" if unit > operand else "operand"] += at - soonest
        for slot in slots:
            self._finish(slot, at, clock)
        clock.issued, clock.vector = clock.now, at
        queue.append(at + self._release)

    def _operands(self, slot: Slot, clock: Clock) -> int:
        at = 0
        for name in slot.reads:
            at = max(at, clock.ready.get(name, 0))
        if slot.kind == "result":
            return max(at, self._result(slot, clock))
        if slot.kind == "transposed" and clock.transposed.get(slot.number):
            return max(at, clock.transposed[slot.number][0][0])
        if slot.loads_weights and slot.kind.startswith("multiply"):
            pushed = clock.pushed.get(slot.number)
            return at if pushed is None else max(at, pushed + self._push_to_multiply)
        return at

    def _result(self, slot: Slot, clock: Clock) -> int:
        if slot.entry >= 0:
            names = (f"mrb{slot.entry - i}.{slot.number}" for i in range(4))
            return next((clock.ready[n] for n in names if n in clock.ready), 0)
        queue = clock.results.get(slot.number)
        return queue[0] if queue else 0

    def _finish(self, slot: Slot, at: int, clock: Clock) -> None:
        if slot.unit:
            clock.units[slot.unit] = at + slot.interval
            clock.busy[slot.unit] = clock.busy.get(slot.unit, 0) + slot.interval
        for name in slot.writes:
            clock.ready[name] = at + slot.latency
        if slot.kind != "plain":
            self._special(slot, at, clock)

    def _special(self, slot: Slot, at: int, clock: Clock) -> None:
        if slot.kind.startswith("multiply"):
            self._multiplied(slot, at, clock)
        elif slot.kind == "result" and slot.entry < 0:
            queue = clock.results.get(slot.number)
            if queue:
                queue.popleft()
        elif slot.kind == "push":
            clock.pushed[slot.number] = at
        elif slot.kind == "transpose":
            self._transpose(slot, at, clock)
        elif slot.kind == "transposed":
            self._pop_transposed(slot.number, clock)
        elif slot.kind == "store":
            clock.stored = at

    def _multiplied(self, slot: Slot, at: int, clock: Clock) -> None:
        first = at + (self._low if slot.number < 2 else self._high)
        if slot.entry >= 0:
            clock.ready[f"mrb{slot.entry}.{slot.number}"] = first
            return
        queue = clock.results.setdefault(slot.number, deque())
        queue.extend(first + i * self._result_interval for i in range(slot.count))

    def _transpose(self, slot: Slot, at: int, clock: Clock) -> None:
        begun = clock.started.setdefault(slot.number, at)
        if not slot.count:
            return
        # A transpose of fewer rows takes as long as a whole one.
        whole = begun + slot.least * slot.interval
        queue = clock.transposed.setdefault(slot.number, deque())
        queue.append((max(at, whole) + slot.latency, slot.count))
        del clock.started[slot.number]

    def _pop_transposed(self, number: int, clock: Clock) -> None:
        queue = clock.transposed.get(number)
        if not queue:
            return
        at, left = queue.popleft()
        if left > 1:
            queue.appendleft((at, left - 1))


def thaw(state: State) -> Clock:
    """A clock at cycle 0 in that state."""
    return Clock(
        issued=state.issued,
        vector=state.vector,
        stored=state.stored,
        queue=deque(state.queue),
        ready=dict(state.ready),
        units=dict(state.units),
        results={number: deque(queue) for number, queue in state.results},
        transposed={number: deque(queue) for number, queue in state.transposed},
        started=dict(state.started),
        pushed=dict(state.pushed),
    )
