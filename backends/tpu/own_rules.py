"""What the kernels ask of a schedule themselves, whatever the chip.

A compiler would accept what breaks these rules, and the kernel would compute something
else: a width that blocks do not fill, a chunk that its tail cannot be halved from.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from backends.chips import Chip
from backends.tpu.kernel_ops import FIELDS, STEP, TILES, KernelOp
from backends.tpu.kernels.copies import COPIED_TOGETHER
from backends.tpu.router_rules import router_reason, router_values
from backends.tpu.schedule import (
    LANES,
    LEAST_ROWS,
    STAY,
    WINDOW,
    chunk_rows,
    cuts,
    parts_of,
    ragged_cuts,
)
from ir.errors import IllegalSchedule, UnknownScheduleField
from ir.op import operand_types, place_of
from ir.router_sizes import sizes_of

Schedule = Mapping[str, Any]

_MOST = 1 << 16  # rows of a tile, or tokens of a step, that are worth naming


def own_problems(
    kernel: KernelOp, schedule: Schedule, chip: Chip
) -> Iterator[IllegalSchedule | UnknownScheduleField]:
    """What of a schedule the kernel cannot run."""
    yield from _foreign(kernel, schedule, chip)
    for field, value in schedule.items():
        reason = _reason(kernel, schedule, field, value)
        if reason:
            yield illegal(kernel, chip, field, value, reason)


def illegal(
    kernel: KernelOp, chip: Chip, field: str, value: Any, reason: str
) -> IllegalSchedule:
    """The error of one field, with the values next to it that are legal."""
    return IllegalSchedule(
        place_of(kernel.op),
        kernel=kernel.name,
        chip=chip.name,
        field=field,
        value=str(value).lower(),
        reason=reason,
        fix=_fix(value, legal_values(kernel, field)),
    )


def legal_values(kernel: KernelOp, field: str) -> list[int]:
    """Values that keep to the kernels' own rules, the largest first."""
    if kernel.kind == "router":
        return router_values(sizes_of(kernel.op), kernel.schedule, field)
    if field in kernel.widths:
        cut = cuts if field == "block_inner" else ragged_cuts
        return cut(kernel.widths[field])
    if field == WINDOW:
        return parts_of(kernel.schedule.get("tile_rows", LEAST_ROWS))
    if field in (*TILES, STEP):
        powers = (1 << n for n in range(_MOST.bit_length() - 1, 3, -1))
        return [power for power in powers if power >= LEAST_ROWS]
    return []


def changed(schedule: Schedule, field: str, value: int) -> dict[str, Any]:
    """The schedule with one field changed, and what depends on it."""
    other = {**schedule, field: value}
    if field == "tile_rows" and value % other["chunk_rows"]:
        other["chunk_rows"] = chunk_rows(value)
    if WINDOW in other and field in TILES:
        other[WINDOW] = fitted(other[WINDOW], other["tile_rows"], other["chunk_rows"])
    return other


def fitted(window: int, tile: int, chunk: int) -> int:
    """The largest part of a tile, in whole chunks, that is no larger than a window."""
    parts = (tile // n for n in range(1, tile // chunk + 1) if tile % (n * chunk) == 0)
    return next((part for part in parts if part <= window), chunk)


def _foreign(
    kernel: KernelOp, schedule: Schedule, chip: Chip
) -> Iterator[UnknownScheduleField]:
    for field in schedule.keys() ^ set(FIELDS[kernel.kind]):
        have = f"{kernel.name} has exactly {', '.join(kernel.fields)}"
        yield UnknownScheduleField(
            place_of(kernel.op), name=field, target=chip.name, have=have
        )


def _reason(kernel: KernelOp, schedule: Schedule, field: str, value: Any) -> str:
    """Why a field's value is wrong; empty if it is not."""
    if kernel.kind == "router":
        return router_reason(sizes_of(kernel.op), schedule, field, value)
    if field == STAY:
        return "" if type(value) is bool else "it must be true or false"
    if field == "fetches":
        return _wrong_fetch(kernel, schedule, value)
    if type(value) is not int or value < 1:
        return "it must be a positive whole number"
    if field in kernel.widths:
        return _wrong_block(field, value, kernel.widths[field])
    if field == "chunk_rows":
        power = value >= LEAST_ROWS and value & (value - 1) == 0
        return "" if power else f"chunks are powers of two from {LEAST_ROWS} rows on"
    chunk = schedule.get("chunk_rows", 1)
    if field == "tile_rows":
        return f"a tile is whole chunks, of {chunk} rows" if value % chunk else ""
    if field == WINDOW:
        parts = value % chunk == 0 and schedule["tile_rows"] % value == 0
        return "" if parts else f"a tile is whole windows, of chunks of {chunk} rows"
    choices = operand_types(kernel.op)[0].shape[1]
    if value * choices % COPIED_TOGETHER:
        return (
            f"its {value} x {choices} rows are copied {COPIED_TOGETHER} at a time, "
            "and must be a multiple of that"
        )
    return ""


def _wrong_block(field: str, value: int, width: int) -> str:
    if value > width:
        return f"the width is only {width}"
    if field == "block_inner" and width % value:
        return f"blocks of what is summed must divide its width of {width}"
    return ""


def _wrong_fetch(kernel: KernelOp, schedule: Schedule, value: Any) -> str:
    if type(value) is not bool:
        return "it must be true or false"
    if not value:
        return ""
    if kernel.fetched_field is None:
        return "it reads no rows of tokens that it could fetch"
    width, unit = kernel.widths[kernel.fetched_field], fetched_unit(kernel)
    if width % unit:
        return f"it fetches rows of whole lanes, {unit} columns each, and not {width}"
    return ""


def fetched_unit(kernel: KernelOp) -> int:
    """Columns of tokens that fill the lanes: words hold two of bfloat16."""
    return LANES if kernel.compute == "float32" else 2 * LANES


def _fix(value: Any, legal: Iterable[int]) -> str:
    """The legal values next to a value."""
    known = sorted(legal)
    if type(value) is not int or not known:
        return f"use {known[0]}" if known else "use false"
    near = [v for v in known if v <= value][-1:] + [v for v in known if v > value][:1]
    return f"use {' or '.join(map(str, near))}"
