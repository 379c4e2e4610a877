"""A segment's bundles as the timing model sees them: reads, writes, units."""

from collections import Counter
from dataclasses import dataclass

from backends.tpu.profile.bundles import Bundle, Instruction, Program
from backends.tpu.profile.latencies import Latencies, Timing
from backends.tpu.profile.operands import Literal
from backends.tpu.profile.scalar import is_timed
from backends.tpu.profile.segments import Segment
from ir.errors import Where

_LOADS_WEIGHTS = ("msra", "msrb", "vlgmr", "msrc")


@dataclass(frozen=True)
class Slot:
    """One timed instruction; `bit` is its place among the guarded ones, or -1.

    `count` is the number of results that a multiply or a transpose will be asked for,
    `least` how many intervals a transpose takes even if it has fewer rows.
    """

    kind: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    unit: str
    interval: int
    latency: int
    number: int
    bit: int
    count: int = 0
    loads_weights: bool = False
    entry: int = -1
    least: int = 0


@dataclass(frozen=True)
class Row:
    """One bundle. `delay` is the vector side's distance behind the scalar side."""

    waits: tuple[str, ...]
    scalar: tuple[Slot, ...]
    vector: tuple[Slot, ...]
    delay: int
    fence: bool
    idle: int


class Rows:
    """Builds the rows of segments."""

    def __init__(self, program: Program, table: Latencies) -> None:
        self._program = program
        self._table = table
        self._results = _results_per_multiply(program, table)

    def of(self, segment: Segment) -> tuple[Row, ...]:
        """One row for each bundle of the segment."""
        bits = 0
        rows = []
        for bundle in self._program.bundles[segment.begin : segment.end]:
            row, bits = self._row(bundle, bits)
            rows.append(row)
        return tuple(rows)

    def _row(self, bundle: Bundle, bits: int) -> tuple[Row, int]:
        scalar: list[Slot] = []
        vector: list[Slot] = []
        idle = 0
        for each in bundle.instructions:
            idle += _idle(each)
            if not is_timed(each):
                continue
            bit, bits = (bits, bits + 1) if each.predicate else (-1, bits)
            slot = self._slot(each, bit)
            (scalar if each.opcode.startswith("s") else vector).append(slot)
        memory = any(slot.kind in ("load", "store") for slot in vector)
        delay = "memory_issue_delay" if memory else "issue_delay"
        row = Row(
            waits=tuple(sorted(_waits(bundle))),
            scalar=tuple(scalar),
            vector=tuple(vector),
            delay=self._table.cycles(delay),
            fence=any(i.opcode == "sfence" for i in bundle.instructions),
            idle=idle,
        )
        return row, bits

    def _slot(self, each: Instruction, bit: int) -> Slot:
        where = Where(self._program.name, each.line)
        timing = self._table.timing(each.opcode, where, each.attributes)
        reads = {r.name for r in each.registers if not _is_scalar_name(r.name)}
        return Slot(
            kind=timing.kind,
            reads=tuple(sorted(reads)),
            writes=tuple(r.name for r in each.results),
            unit=timing.unit,
            interval=timing.interval,
            latency=timing.latency,
            number=timing.number,
            bit=bit,
            count=self._count(each, timing),
            loads_weights=any(word in each.opcode for word in _LOADS_WEIGHTS),
            entry=_entry(each),
            least=15 if ".b32." in each.opcode else 7,
        )

    def _count(self, each: Instruction, timing: Timing) -> int:
        if timing.kind.startswith("multiply"):
            return self._results.get((timing.number, timing.kind), 0)
        if timing.kind != "transpose" or not each.opcode.endswith("end"):
            return 0
        width = each.operands[-1] if each.operands else None
        rows = 8 if ".b32." in each.opcode or ".binary." in each.opcode else 16
        return -(-int(width.value) // rows) if isinstance(width, Literal) else 16


def _is_scalar_name(name: str) -> bool:
    return name[:1] in ("s", "p")


def _waits(bundle: Bundle) -> set[str]:
    return {
        register.name
        for each in bundle.instructions
        if not each.opcode.startswith(("sphi", "int_to_ptr"))
        for register in each.registers
        if _is_scalar_name(register.name)
    }


def _idle(each: Instruction) -> int:
    if each.opcode != "vdelay" or not each.operands:
        return 0
    first = each.operands[0]
    return int(first.value) if isinstance(first, Literal) else 0


def _entry(each: Instruction) -> int:
    """The place of a result that accumulates in place, `mrb[4].mxu0`; else -1."""
    _, found, rest = f"{each.opcode} {each.attributes}".partition("mrb [")
    return int(rest.split("]")[0]) if found else -1


def _results_per_multiply(
    program: Program, table: Latencies
) -> dict[tuple[int, str], int]:
    """Results popped for each multiply, by MXU and kind: it depends on the rows packed.

    Beside packed ones, one of float32 or of half the rows gives half of the usual.
    """
    counts: dict[int, Counter[str]] = {}
    for each in program.instructions:
        if each.opcode.startswith(("vmatmul", "vpop.f32.mr")):
            where = Where(program.name, each.line)
            kind = table.timing(each.opcode, where).kind
            counts.setdefault(_mxu(each), Counter())[kind] += 1
    usual = table.cycles("results_per_multiply")
    return {
        (number, kind): count
        for number, held in counts.items()
        for kind, count in _shares(held, usual).items()
    }


def _shares(held: Counter[str], usual: int) -> dict[str, int]:
    """Results of each kind of multiply, from how often each and a pop stand there."""
    kinds = [kind for kind in held if kind.startswith("multiply")]
    pops = held.get("result", usual * sum(held[kind] for kind in kinds))
    half, packed = max(1, usual // 2), held["multiply"]
    halves = sum(held[kind] for kind in kinds if kind != "multiply")
    if packed and halves and pops > half * halves:
        shares = dict.fromkeys(kinds, half)
        return shares | {"multiply": (pops - half * halves) // packed}
    return {kind: pops // held[kind] for kind in kinds}


def _mxu(each: Instruction) -> int:
    _, found, rest = f"{each.opcode}{each.attributes}".partition("mxu")
    return int(rest[0]) if found and rest[:1].isdigit() else 0
