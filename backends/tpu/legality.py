"""What makes a schedule legal on a TPU, found out before anything is compiled.

First the kernels' own rules, which no compiler checks: whole blocks, whole chunks.
Then the chip's: whole lanes, room in both memories, numbers of 32 bits. Memory counts
as too small only where libtpu must refuse the kernel; defaults leave room for more.
"""

from collections.abc import Iterable, Iterator, Mapping
from math import prod
from typing import Any

from backends.chips import CHIPS, Chip
from backends.tpu.buffers import (
    LANES,
    SUBLANES,
    Buffer,
    Memory,
    largest,
    readable,
    total,
)
from backends.tpu.kernel_buffers import IN_LINES, places_of
from backends.tpu.kernel_ops import STEP, TILES, KernelOp
from backends.tpu.own_rules import (
    changed,
    fetched_unit,
    illegal,
    legal_values,
    own_problems,
)
from backends.tpu.schedule import vmem_limit
from ir.errors import IndexOverflow, KernelTooLarge, MoegenError
from ir.op import place_of

NUMBERS = 2**31 - 1  # the largest int32
SMEM_KEPT = 512  # bytes of scalar memory that are never a kernel's
SMEM_SPILLS = 16 * 1024  # bytes that defaults leave for scalars without a register
_NAMES: Mapping[Memory, str] = {"vmem": "VMEM", "smem": "scalar memory (SMEM)"}

Schedule = Mapping[str, Any]


def verify_schedules(kernels: Iterable[KernelOp], chip: str) -> None:
    """Raise for the first kernel whose schedule is not legal on the chip.

    Raises `IllegalSchedule`, `KernelTooLarge` or `IndexOverflow`, at the user's line.
    """
    seen: dict[str, Any] = {}
    for kernel in kernels:
        problem = next(problems(kernel, kernel.schedule, CHIPS[chip]), None)
        problem = problem or _disagreement(kernel, seen, chip)
        if problem:
            raise problem


def problems(kernel: KernelOp, schedule: Schedule, chip: Chip) -> Iterator[MoegenError]:
    """What is wrong with a kernel's schedule; nothing if it is legal."""
    wrong = next(own_problems(kernel, schedule, chip), None)
    if wrong:
        yield wrong
        return
    buffers = kernel.buffers(schedule, chip)
    yield from _unaligned(kernel, chip, schedule, buffers)
    yield from _cut_rows(kernel, chip, schedule, buffers)
    yield from _long_lines(kernel, chip, schedule, buffers)
    yield from _too_large(kernel, chip, schedule, buffers)
    yield from _too_many(kernel, schedule, buffers)


def fits(kernel: KernelOp, schedule: Schedule, chip: Chip, values: int = 0) -> bool:
    """Whether a schedule is legal and leaves VMEM for `values` bytes besides."""
    if next(own_problems(kernel, schedule, chip), None):
        return False
    buffers = kernel.buffers(schedule, chip)
    if total(buffers, "smem") + SMEM_SPILLS > limit(chip, "smem"):
        return False
    if total(buffers, "vmem") + values > limit(chip, "vmem"):
        return False
    return not any(problems(kernel, schedule, chip))


def vmem_of(kernel: KernelOp, schedule: Schedule, chip: Chip) -> int:
    """Bytes of VMEM under a schedule; 0 for one that the kernel cannot run at all."""
    if next(own_problems(kernel, schedule, chip), None):
        return 0
    return total(kernel.buffers(schedule, chip), "vmem")


def limit(chip: Chip, memory: Memory) -> int:
    """Bytes of a memory that a kernel can have."""
    if memory == "vmem":
        return vmem_limit(chip)
    assert chip.scalar_bytes.value is not None
    return int(chip.scalar_bytes.value) - SMEM_KEPT


def needed(buffers: list[Buffer], memory: Memory, chip: Chip) -> int:
    """Bytes of a memory that buffers take for certain.

    An array may lie in what a kernel leaves of VMEM, and is then read there without a
    window. XLA decides which; all together are no larger than what is left.
    """
    if memory == "smem":
        still = total([b for b in buffers if b.still], "smem")
        return total(buffers, "smem") - still // 2
    assert chip.on_chip_bytes.value is not None
    spare = int(chip.on_chip_bytes.value) - vmem_limit(chip)
    small = [b for b in buffers if b.memory == memory and 0 < b.array_bytes <= spare]
    return total(buffers, memory) - min(total(small, memory), 2 * spare)


def _unaligned(
    kernel: KernelOp, chip: Chip, schedule: Schedule, buffers: list[Buffer]
) -> Iterator[MoegenError]:
    """Windows are whole lanes and sublanes, or as wide as their array."""
    for buffer in buffers:
        if not buffer.array or len(buffer.shape) < 2:
            continue
        for axis, unit, name in ((-1, LANES, "lanes"), (-2, SUBLANES, "sublanes")):
            block, size = buffer.shape[axis], buffer.array[axis]
            if block == size or block % unit == 0:
                continue
            reason = (
                f"its block of {buffer.what} has {block} of {size} {name}, neither all "
                f"nor a multiple of {unit}"
            )
            field = buffer.fields[axis]
            yield illegal(kernel, chip, field, schedule[field], reason)


def _cut_rows(
    kernel: KernelOp, chip: Chip, schedule: Schedule, buffers: list[Buffer]
) -> Iterator[MoegenError]:
    """A kernel fetches whole rows; one of sums, which adds none up, blocks of words."""
    field = kernel.fetched_field
    if not field or not schedule["fetches"] or schedule[field] == kernel.widths[field]:
        return
    width, cut = kernel.widths[field], schedule[field]
    unit = fetched_unit(kernel)
    if kernel.kind == "grouped_rows":
        reason = f"it fetches whole rows, of {width} columns"
    elif cut % unit or width % cut:
        reason = f"it fetches {width} columns in equal blocks, of a multiple of {unit}"
    else:
        return
    yield illegal(kernel, chip, field, cut, reason)


def _long_lines(
    kernel: KernelOp, chip: Chip, schedule: Schedule, buffers: list[Buffer]
) -> Iterator[MoegenError]:
    """A line is found by a number only known at run time: within one row of lanes."""
    for buffer in buffers:
        if buffer.what not in IN_LINES:
            continue
        *_, lines, lanes = buffer.shape
        if lines > 1 and lanes > LANES:
            reason = (
                f"its {buffer.what} lie {lanes} to a line, and lines of more than "
                f"{LANES} cannot be told apart within a tile"
            )
            yield illegal(kernel, chip, "chunk_rows", schedule["chunk_rows"], reason)


def _too_large(
    kernel: KernelOp, chip: Chip, schedule: Schedule, buffers: list[Buffer]
) -> Iterator[MoegenError]:
    for memory, name in _NAMES.items():
        if needed(buffers, memory, chip) <= limit(chip, memory):
            continue
        yield KernelTooLarge(
            place_of(kernel.op),
            kernel=kernel.name,
            chip=chip.name,
            memory=name,
            need=readable(total(buffers, memory)),
            limit=readable(limit(chip, memory)),
            schedule=", ".join(f"{f}={str(v).lower()}" for f, v in schedule.items()),
            largest=largest(buffers, memory),
            fix=_smaller(kernel, chip, schedule),
        )


def _smaller(kernel: KernelOp, chip: Chip, schedule: Schedule) -> str:
    """What would fit: one field made smaller, or all of them."""
    single = [_first_fit(kernel, chip, schedule, field) for field in kernel.fields]
    found = [text for text in single if text]
    if found:
        return f"{' or '.join(found)} would fit"
    least = dict(schedule)
    for field in kernel.fields:
        values = legal_values(kernel, field)
        least = changed(least, field, values[-1]) if values else least
    if _has_room(kernel, chip, least):
        return "make several of its blocks and tiles smaller"
    return "no blocks of its widths fit; widths that are multiples of 128 can be cut"


def _first_fit(kernel: KernelOp, chip: Chip, schedule: Schedule, field: str) -> str:
    """The largest smaller value of a field that fits, as FIELD=VALUE."""
    for value in legal_values(kernel, field):
        if value < schedule[field]:
            other = changed(schedule, field, value)
            if _has_room(kernel, chip, other):
                return f"{field}={value}"
    return ""


def _has_room(kernel: KernelOp, chip: Chip, schedule: Schedule) -> bool:
    buffers = kernel.buffers(schedule, chip)
    return all(needed(buffers, m, chip) <= limit(chip, m) for m in _NAMES)


def _too_many(
    kernel: KernelOp, schedule: Schedule, buffers: list[Buffer]
) -> Iterator[MoegenError]:
    """What kernels number must stay within int32."""
    # A DMA finds a row by a count of words in 32 bits.
    counts = [
        ("words that rows are copied from", prod(b.source)) for b in buffers if b.source
    ]
    if kernel.piece:
        counts.append(("places for rows", places_of(kernel.op, schedule)))
    for what, count in counts:
        if count > NUMBERS:
            yield IndexOverflow(
                place_of(kernel.op),
                what=f"the {what} by the kernel {kernel.name}",
                count=count,
                limit=NUMBERS,
                fix="give the layer fewer tokens at a time",
            )


def _disagreement(
    kernel: KernelOp, seen: dict[str, Any], chip: str
) -> MoegenError | None:
    """Kernels of one row space have one tile, and combines one step."""
    for field in (*TILES, STEP):
        value = kernel.schedule.get(field)
        if value is None or seen.setdefault(field, value) == value:
            continue
        reason = f"another kernel of the layer has {field}={seen[field]}"
        return illegal(kernel, CHIPS[chip], field, value, reason)
    return None
