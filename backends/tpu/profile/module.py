"""A whole compiled function as a time line: `profile_module(dump) -> ModuleProfile`.

A core runs the ops of a module one after another. A kernel's time, and that of most of
XLA's own ops, comes from simulating their bundles; where that cannot be done, from
XLA's `estimated_cycles`, else from the bytes that move. Copies that were started
earlier run beside other ops: only what is left when they are waited for takes time.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from backends.tpu.profile.calls import matching
from backends.tpu.profile.confidence import confidence
from backends.tpu.profile.cores import simulate_device
from backends.tpu.profile.dump import Dump, KernelText
from backends.tpu.profile.hlo import Module, Op, arrays_of, read_module
from backends.tpu.profile.latencies import Latencies, latencies
from backends.tpu.profile.simulate import Profile
from ir.errors import MoegenError, UnknownScalar

BUNDLES, XLA, BYTES = "bundles", "XLA's estimate", "bytes"
KERNEL, WAIT = "kernel", "wait"
_FREE = frozenset(
    (
        "parameter",
        "constant",
        "tuple",
        "get-tuple-element",
        "bitcast",
        "after-all",
        "partition-id",
        "replica-id",
        "opt-barrier",
    )
)
_MARKERS = ("AllocateBuffer", "ConcatBitcast", "Sharding")
_PREFETCHED = 8192  # words of an operand that a kernel's path may follow from
_SCALAR_BYTES = 4096
_SCALAR_CYCLES = 16  # of an op on a few numbers, which has no bundles of its own


@dataclass(frozen=True)
class OpTime:
    """An op of the time line; `start` and `cycles` are of all `count` runs together.

    `kind` is `kernel`, `wait`, or XLA's opcode; `how` says what the time comes from,
    `confidence` how far it can be trusted (`confidence`). `profile` is of one run.
    """

    name: str
    kind: str
    source: str
    start: int
    cycles: int
    count: int
    how: str
    confidence: str
    profile: Profile | None = None
    note: str = ""


@dataclass(frozen=True)
class ModuleProfile:
    """The estimate for a compiled function; see `OpTime`. Nothing here is measured."""

    name: str
    chip: str
    clock_hz: float
    ops: tuple[OpTime, ...]
    libtpu: str = ""
    jax: str = ""

    @property
    def cycles(self) -> int:
        """From the first op to the end of the last."""
        return sum(op.cycles for op in self.ops)

    @property
    def seconds(self) -> float:
        """`cycles` at the chip's clock."""
        return self.cycles / self.clock_hz

    @property
    def mxu_busy(self) -> float:
        """The share of all cycles and MXUs in which a multiply is being fed."""
        fed = sum(op.profile.mxu_busy * op.cycles for op in self.ops if op.profile)
        return fed / max(1, self.cycles)

    @property
    def hbm_bytes(self) -> int:
        """Bytes that the simulated ops moved between HBM and the cores."""
        return sum(op.profile.hbm_bytes * op.count for op in self.ops if op.profile)

    @property
    def provenance(self) -> str:
        """How all of it was obtained."""
        return f"estimated from the schedule compiled by libtpu {self.libtpu}"

    def kernels(self) -> Iterator[OpTime]:
        """The Pallas kernels, in order."""
        return (op for op in self.ops if op.kind == KERNEL)


def profile_module(dump: Dump) -> ModuleProfile:
    """The time line of everything that `dump.compiled` runs.

    An op that cannot be simulated has a note that says why, and class C or D: such as a
    kernel whose path follows from what no routing tells.
    """
    module = read_module(dump.compiled)
    table = latencies(dump.chip)
    timed = _Timing(module, dump, table).computation(module.entry)
    ops, now = [], 0
    for each in timed:
        ops.append(each.at(now))
        now += each.cycles * each.count
    return ModuleProfile(
        name=module.name,
        chip=dump.chip,
        clock_hz=table["clock_hz"],
        ops=tuple(ops),
        libtpu=dump.libtpu,
        jax=dump.jax,
    )


@dataclass(frozen=True)
class _Timed:
    """An op and the cycles of one run."""

    op: Op
    kind: str
    cycles: int
    how: str
    confidence: str
    profile: Profile | None = None
    count: int = 1
    note: str = ""

    def times(self, count: int, note: str = "") -> "_Timed":
        return _Timed(
            self.op,
            self.kind,
            self.cycles,
            self.how,
            "D" if note else self.confidence,
            self.profile,
            self.count * count,
            self.note or note,
        )

    def at(self, start: int) -> OpTime:
        return OpTime(
            name=self.op.name,
            kind=self.kind,
            source=self.op.source,
            start=start,
            cycles=self.cycles * self.count,
            count=self.count,
            how=self.how,
            confidence=self.confidence,
            profile=self.profile,
            note=self.note,
        )


@dataclass
class _Timing:
    """Times ops; the same code is simulated once."""

    module: Module
    dump: Dump
    table: Latencies
    _texts: dict[str, KernelText] = field(default_factory=dict)
    _patterns: dict[str, KernelText] = field(default_factory=dict)
    _simulated: dict[str, Profile | str] = field(default_factory=dict)
    _seen: dict[tuple[str, tuple[str, ...]], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._texts = {text.name: text for text in self.dump.kernels}
        for name, text in self._texts.items():
            if op := self.module.find(name):
                self._patterns.setdefault(self.module.pattern(op), text)

    def computation(self, name: str) -> list[_Timed]:
        """The ops of a computation in order, loops unrolled into counts."""
        timed: list[_Timed] = []
        copies = _Copies(self.table)
        now = 0
        for op in self.module.ops(name):
            for each in self._op(op, now, copies):
                timed.append(each)
                now += each.cycles * each.count
        return timed

    def _op(self, op: Op, now: int, copies: "_Copies") -> list[_Timed]:
        if op.opcode in _FREE or op.target in _MARKERS:
            return []
        if op.opcode == "while":
            return self._loop(op)
        if op.opcode == "conditional":
            branches = [self.computation(name) for name in op.called]
            longest = max(branches, key=_length, default=[])
            return [each.times(1, "the longest branch") for each in longest]
        if op.opcode == "call":
            return self.computation(op.called[0])
        if op.opcode.endswith("-start"):
            copies.start(op, now)
            return []
        if op.opcode.endswith("-done"):
            left = copies.left(op, now)
            return [_Timed(op, WAIT, left, BYTES, "C")] if left else []
        return [self._leaf(op)]

    def _loop(self, op: Op) -> list[_Timed]:
        trips = self.module.trips(op)
        note = "" if trips is not None else "a loop whose trips are not known, once"
        body = self.computation(op.called[0])
        return [each.times(1 if trips is None else trips, note) for each in body]

    def _leaf(self, op: Op) -> _Timed:
        kernel = op.target == "tpu_custom_call"
        kind = KERNEL if kernel else op.opcode
        found = self._bundles(op, kernel)
        if isinstance(found, Profile):
            trust = confidence(self.dump.chip, kernel, bool(found.notes))
            return _Timed(op, kind, found.cycles, BUNDLES, trust, found)
        if op.estimated_cycles is not None:
            return _Timed(op, kind, op.estimated_cycles, XLA, "C", note=found)
        return _Timed(op, kind, self._by_bytes(op), BYTES, "D", note=found)

    def _bundles(self, op: Op, kernel: bool) -> Profile | str:
        """The simulated op, or why it could not be."""
        pattern = self.module.pattern(op)
        text = self._texts.get(op.name) or self._patterns.get(pattern)
        if text is None:
            return ""
        if kernel:
            return self._kernel(op, text)
        if text.name not in self._simulated:
            self._simulated[text.name] = self._own_op(text)
        return self._simulated[text.name]

    def _kernel(self, op: Op, text: KernelText) -> Profile | str:
        try:
            return simulate_device(text, self.dump.chip, self._operands(op))
        except MoegenError as error:
            return f"not simulated, the bytes alone: {error}"

    def _operands(self, op: Op) -> dict[str, list[int]]:
        name = op.source.removesuffix("/pallas_call").rpartition("/")[2]
        key = name, op.operand_types
        seen = self._seen.get(key, 0)
        self._seen[key] = seen + 1
        call = matching(self.dump.calls, name, op.operand_types, seen)
        return call.scalars(_PREFETCHED) if call else {}

    def _own_op(self, text: KernelText) -> Profile | str:
        """One of XLA's own ops; indices that only a run knows are taken to be zero."""
        zeros = {f"argument{number}": [0] for number in range(16)}
        try:
            return simulate_device(text, self.dump.chip, {})
        except UnknownScalar:
            pass
        except MoegenError as error:
            return str(error)
        try:
            return simulate_device(text, self.dump.chip, zeros)
        except MoegenError as error:
            return str(error)

    def _by_bytes(self, op: Op) -> int:
        moved = sum(array.bytes for array in op.arrays)
        for name in op.operands:
            operand = self.module.find(name)
            moved += sum(a.bytes for a in arrays_of(operand.type)) if operand else 0
        if moved <= _SCALAR_BYTES:
            return _SCALAR_CYCLES
        return int(self.table["dma_in"] + moved / 1024 * self.table["cycles_per_kib"])


@dataclass
class _Copies:
    """Copies between memories that run beside the core, one after another."""

    table: Latencies
    free: int = 0
    ready: dict[str, int] = field(default_factory=dict)

    def start(self, op: Op, now: int) -> None:
        arrays = op.arrays
        moved = min((a.bytes for a in arrays if len(a.shape)), default=0)
        took = moved / 1024 * self.table["cycles_per_kib"]
        self.free = int(max(now, self.free) + took)
        self.ready[op.name] = self.free + int(self.table["dma_in"])

    def left(self, op: Op, now: int) -> int:
        return max(0, self.ready.get(op.operands[0], 0) - now)


def _length(timed: list[_Timed]) -> int:
    return sum(each.cycles * each.count for each in timed)
