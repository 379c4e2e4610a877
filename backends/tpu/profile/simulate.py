"""Cycles of one kernel, ahead of time: `simulate(dump, chip, scalars) -> Profile`.

The scalar core is executed for real; each segment's issue timing is computed once for
each state it is entered in; steady loops are extrapolated (`loops`). What comes out is
an estimate made without a device, never a measurement.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from backends.tpu.profile.bundles import Program, read_bundles
from backends.tpu.profile.checks import check_registers
from backends.tpu.profile.counters import LEADING, Counters
from backends.tpu.profile.dma import Dma
from backends.tpu.profile.dump import Dump, KernelText
from backends.tpu.profile.issue import STALLS, Clock, Issue, State, thaw
from backends.tpu.profile.latencies import Latencies, latencies
from backends.tpu.profile.loop_times import Core, LoopTime, loop_times, named, spills
from backends.tpu.profile.loops import Loops
from backends.tpu.profile.nests import Nests
from backends.tpu.profile.scalar import Machine
from backends.tpu.profile.segments import Segment, Segments
from backends.tpu.profile.slots import Row, Rows
from backends.tpu.profile.unknown import known
from ir.errors import EndlessKernel, UnreadableBundles, Where

_MOST_SEGMENTS = 3_000_000
_MOST_MARKS = 1000


@dataclass(frozen=True)
class Mark:
    """A DMA start or the end of a DMA wait.

    `issued` and `vector` are the last vector bundle before it, on the scalar side's and
    on the vector side's clock.
    """

    event: str
    cycle: int
    issued: int
    vector: int


@dataclass(frozen=True)
class Profile:
    """The estimate for one kernel on one core.

    Units: cycles, seconds, bytes. `stalls` are cycles by reason: the vector side's
    waits for operands and units overlap the scalar side's for DMA and scalars.
    `mxu_busy` is the share of all cycles and MXUs in which a multiply is being fed;
    `busy` are the cycles of each unit, by its name in `units.json` and its number.
    `notes` say what was assumed; `loops` are the kernel's, outer before inner ones.
    """

    kernel: str
    chip: str
    cycles: int
    seconds: float
    mxu_busy: float
    stalls: dict[str, int]
    hbm_read: int
    hbm_written: int
    bundles: int
    spills: int
    binds: str
    simulated: float
    notes: tuple[str, ...]
    marks: tuple[Mark, ...] = ()
    busy: dict[str, int] = field(default_factory=dict)
    loops: tuple[LoopTime, ...] = ()

    @property
    def hbm_bytes(self) -> int:
        """Bytes that moved between HBM and the core."""
        return self.hbm_read + self.hbm_written


@dataclass(frozen=True)
class _Passage:
    """A segment entered in one state: how long it takes, and how it leaves."""

    cycles: int
    state: int
    totals: tuple[int, ...]
    stored: int


@dataclass
class Run:
    """Everything that moves while a kernel is simulated."""

    machine: Machine
    dma: Dma
    counters: Counters
    place: int = 0
    now: int = 0
    state: int = 0
    stored: int = 0
    segments: int = 0
    path: int = 0
    notes: set[str] = field(default_factory=set)
    marks: list[Mark] = field(default_factory=list)


def simulate(
    dump: Dump | KernelText | str,
    chip: str,
    scalars: dict[str, list[int]] | None = None,
    *,
    kernel: str | None = None,
    sharers: int = 1,
    extrapolate: bool = True,
) -> Profile:
    """Estimate a kernel of a dump.

    `scalars` supplies what is known only at run time: `argument3` are the words of
    the kernel's operand 3. `sharers` is the number of cores that share the HBM.
    Without `extrapolate` every iteration is simulated.
    """
    text = dump.kernel(kernel) if isinstance(dump, Dump) else dump
    name = text.name if isinstance(text, KernelText) else "kernel"
    bundles = text.bundles if isinstance(text, KernelText) else text
    program = read_bundles(bundles, name)
    check_registers(program)
    simulator = Simulator(program, latencies(chip), scalars or {}, sharers)
    return simulator.profile(bundles.splitlines(), extrapolate)


class Simulator:
    """Runs one program once."""

    def __init__(
        self,
        program: Program,
        table: Latencies,
        scalars: dict[str, list[int]],
        sharers: int = 1,
    ) -> None:
        self._program = program
        self._table = table
        least, most = table.cycles("delay_slots_least"), table.cycles("delay_slots")
        self._segments = Segments(program, least, most)
        self._rows = Rows(program, table)
        self._issue = Issue(table)
        self._built: dict[Segment, tuple[Row, ...]] = {}
        self._passages: dict[tuple[Segment, tuple[bool, ...], int], _Passage] = {}
        self._states: list[State] = []
        self._numbers: dict[State, int] = {}
        self._aged: dict[tuple[int, int], int] = {}
        self._units: list[str] = []
        self._nests = Nests(self._segments.loops(), len(program.bundles))
        dma, counters = Dma(table, sharers=sharers), Counters(self._nests)
        self._run = Run(Machine(program, scalars), dma, counters)
        self._run.state = self._number(Clock().freeze())
        self._loops = Loops(self._run)

    def profile(self, lines: Sequence[str], extrapolate: bool = True) -> Profile:
        """Simulate to the exit; `lines` are the program's text."""
        run = self._run
        place, pending = 0, (0, 0)
        last = len(self._program.bundles)
        while place < last:
            segment = self._segments.at(place, pending[0])
            taken = self._checked(segment)
            following, pending = _next(segment, taken, pending)
            if following <= place and extrapolate:
                self._loops.arrive(following)
            place = following
            run.segments += 1
            if run.segments > _MOST_SEGMENTS:
                reason = f"no end after {_MOST_SEGMENTS} segments, {run.now} cycles"
                raise EndlessKernel(reason=reason)
        left = max(0, self._states[run.state].vector + 1)
        run.now += left
        run.counters.drained(left)
        return self._summary(lines)

    def _checked(self, segment: Segment) -> tuple[bool, ...]:
        """`_pass`, whose failure is that of a damaged text: the bundles do not fit."""
        try:
            return self._pass(segment)
        except (ArithmeticError, LookupError, SyntaxError, TypeError, ValueError) as e:
            where = Where(self._program.name, self._program.bundles[segment.begin].line)
            reason = f"operands do not fit in the bundles that begin here ({e})"
            raise UnreadableBundles(where, reason=reason) from None

    def _pass(self, segment: Segment) -> tuple[bool, ...]:
        run = self._run
        run.place = segment.begin
        run.counters.enter(run.place)
        events, bits, taken = run.machine.run(segment)
        run.path = hash((run.path, segment.begin, segment.end, bits, taken))
        rest = [event for event in events if not self._waits(event)]
        passage = self._passage(segment, bits)
        run.now += passage.cycles
        run.state = passage.state
        run.stored = max(run.stored, run.now + passage.stored)
        run.counters.passed(run.place, passage.cycles, passage.totals)
        for event in rest:
            self._event(event)
        return taken

    def _waits(self, event: tuple[Any, ...]) -> bool:
        if event[0] != "wait":
            return False
        run = self._run
        use = f"the DMA wait in line {event[1]}"
        until = run.dma.wait(known(event[2], use), known(event[3], use), run.now)
        run.path = hash((run.path, event[3]))
        if until > run.now:
            run.counters.waited(run.place, until - run.now)
            run.state = self._age(run.state, until - run.now)
            run.now = until
        self._mark("wait")
        return True

    def _mark(self, event: str) -> None:
        run = self._run
        if len(run.marks) < _MOST_MARKS:
            state = self._states[run.state]
            issued, vector = run.now + state.issued, run.now + state.vector
            run.marks.append(Mark(event, run.now, issued, vector))

    def _event(self, event: tuple[Any, ...]) -> None:
        run = self._run
        kind, line, *operands = event
        if kind == "halt":
            run.notes.add(f"the check in line {line} failed on simulated addresses")
        elif kind == "meet":
            run.dma.meet(run.now)
        elif kind.startswith("vsyncpa"):
            run.dma.set(known(operands[0], "a sync flag"), known(operands[1], "a flag"))
        elif kind.startswith("vsyncadd"):
            run.dma.add(known(operands[0], "a sync flag"), known(operands[1], "a flag"))
        elif kind.startswith("dma."):
            self._start(kind, line, tuple(operands))

    def _start(self, kind: str, line: int, operands: tuple[Any, ...]) -> None:
        run = self._run
        at = run.now
        if kind.startswith("dma.vmem"):
            at = max(at, run.stored + self._table.cycles("store_to_dma"))
        self._mark(kind)
        read, written = run.dma.hbm_read, run.dma.hbm_written
        run.dma.start(kind, at, operands, line)
        read, written = run.dma.hbm_read - read, run.dma.hbm_written - written
        run.counters.moved(run.place, read, written)
        run.path = hash((run.path, kind, operands[1]))
        if kind.endswith("to_smem"):
            words = operands[1] * self._table.cycles("granule_bytes") // 4
            target = known(operands[2], f"the target of {kind} in line {line}")
            run.machine.memory.fill(operands[0], target, words)

    def _passage(self, segment: Segment, bits: tuple[bool, ...]) -> _Passage:
        key = segment, bits, self._run.state
        found = self._passages.get(key)
        if found is None:
            found = self._passages[key] = self._time(segment, bits)
        return found

    def _time(self, segment: Segment, bits: tuple[bool, ...]) -> _Passage:
        if segment not in self._built:
            self._built[segment] = self._rows.of(segment)
        clock = thaw(self._states[self._run.state])
        self._issue.run(self._built[segment], bits, clock)
        for unit in clock.busy:
            if unit not in self._units:
                self._units.append(unit)
        busy = (clock.busy.get(unit, 0) for unit in self._units)
        stalls = (clock.stalls[reason] for reason in STALLS)
        totals = (clock.bundles, *stalls, *busy)
        stored = clock.stored - clock.now
        return _Passage(clock.now, self._number(clock.freeze()), totals, stored)

    def _number(self, state: State) -> int:
        if state not in self._numbers:
            self._numbers[state] = len(self._states)
            self._states.append(state)
        return self._numbers[state]

    def _age(self, state: int, cycles: int) -> int:
        key = state, cycles
        if key not in self._aged:
            clock = thaw(self._states[state])
            clock.now = cycles
            self._aged[key] = self._number(clock.freeze())
        return self._aged[key]

    def _summary(self, lines: Sequence[str]) -> Profile:
        run = self._run
        totals = run.counters.total()
        issued, stalls, busy = named(totals, self._units)
        stalls["dma"] = totals[LEADING.index("dma")]
        mxu = sum(value for unit, value in busy.items() if unit.startswith("multiply"))
        cycles = max(1, run.now)
        clock_hz, multipliers = self._table["clock_hz"], self._table["multipliers"]
        core = Core(self._program, lines, self._units, clock_hz, multipliers, cycles)
        return Profile(
            kernel=self._program.name,
            chip=self._table.chip,
            cycles=cycles,
            seconds=cycles / clock_hz,
            mxu_busy=mxu / cycles / multipliers,
            stalls=stalls,
            hbm_read=run.dma.hbm_read,
            hbm_written=run.dma.hbm_written,
            bundles=issued,
            spills=spills(self._program.instructions),
            binds=_binds(cycles, stalls, busy),
            simulated=self._loops.simulated(cycles),
            notes=tuple(sorted(run.notes)),
            marks=tuple(run.marks),
            busy=busy,
            loops=loop_times(core, self._nests.loops, run.counters.loops()),
        )


def _next(
    segment: Segment, taken: tuple[bool, ...], pending: tuple[int, int]
) -> tuple[int, tuple[int, int]]:
    """Where to go on, and a taken branch whose delay slots are still to come."""
    if pending[0]:
        return pending[1], (0, 0)
    for (_, target, end), jumps in zip(segment.branches, taken, strict=True):
        if jumps and end <= segment.end:
            return target, (0, 0)
        if jumps:
            return segment.end, (end, target)
    return segment.end, (0, 0)


def _binds(cycles: int, stalls: dict[str, int], busy: dict[str, int]) -> str:
    """The one thing that most of the time goes to."""
    shares = {unit: value / cycles for unit, value in busy.items()}
    shares["dma"] = stalls["dma"] / cycles
    top = max(shares, key=lambda unit: shares[unit])
    return top if shares[top] >= 0.5 else "issue and latency"
