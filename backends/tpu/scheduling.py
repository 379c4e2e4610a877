"""Put schedules on the kernel ops of a module: the user's choices, then the model's.

A schedule that is on an op already counts as chosen, so that printed IR with another
tile can be given to the pass `schedule` again.
"""

from collections.abc import Mapping
from math import inf
from typing import Any, NamedTuple

from backends.chips import CHIPS, Chip
from backends.schedule_choices import Choices, chosen_fields, unused_choices
from backends.tpu.kernel_ops import (
    FIELDS,
    STEP,
    TILES,
    KernelOp,
    combine_kernels,
    grouped_kernels,
)
from backends.tpu.kernel_time import ranked, seconds
from backends.tpu.legality import fits, verify_schedules, vmem_of
from backends.tpu.router_schedule import schedule_routers
from backends.tpu.schedule import (
    CHUNK_ROWS,
    Blocks,
    Work,
    chunk_rows,
    combined_tokens,
    cores,
    gathered_bytes,
    hbm_bytes,
    least_bytes,
    tile_choices,
    value_bytes,
    vmem_limit,
)
from backends.tpu.storage import BYTES, stored_dtype
from backends.tpu.work import work_of
from ir import mlir
from ir.errors import UnknownScheduleField
from ir.op import attributes_of, operand_types

Pins = dict[str, Any]

NEARLY = 1.03  # times that our model cannot tell apart; traffic decides among them


class Planned(NamedTuple):
    """A schedule of a kernel, its modelled time and the bytes that it moves."""

    seconds: float
    moved: int
    schedule: dict[str, Any]


def schedule_module(module: mlir.Module, chip: str, choices: Choices) -> None:
    """Give every kernel op a schedule that is legal on the chip.

    What the choices leave open follows from the shapes of all kernels and the chip.
    Raises `IllegalSchedule`, `KernelTooLarge`, `IndexOverflow`, `UnknownScheduleField`.
    """
    routers = schedule_routers(module, choices, CHIPS[chip])
    grouped = grouped_kernels(module)
    pins = {k.name: k.schedule | _chosen(k, choices) for k in grouped}
    if grouped:
        _schedule_grouped(grouped, pins, CHIPS[chip])
    combines = _schedule_combines(module, choices, CHIPS[chip])
    kernels = [*routers, *grouped, *combines]
    _refuse_unused(kernels, choices, chip)
    verify_schedules(kernels, chip)


def _schedule_combines(
    module: mlir.Module, choices: Choices, chip: Chip
) -> list[KernelOp]:
    """Give combines a schedule whose kernel fits; XLA runs the others."""
    kernels = combine_kernels(module)
    pins = {k.name: k.schedule | _chosen(k, choices) for k in kernels}
    steps = {k.name: {STEP: _step_tokens(k, chip)} for k in kernels}
    running = [k for k in kernels if pins[k.name] or fits(k, steps[k.name], chip)]
    least = min((steps[k.name][STEP] for k in running), default=0)
    for kernel in running:
        kernel.put({STEP: least} | pins[kernel.name])
    return running


def _chosen(kernel: KernelOp, choices: Choices) -> dict[str, Any]:
    return chosen_fields(kernel.name, kernel.fields, choices)


def _refuse_unused(kernels: list[KernelOp], choices: Choices, chip: str) -> None:
    named = {kernel.name: kernel.fields for kernel in kernels}
    unused = unused_choices(named, choices)
    if not unused:
        return
    kinds = dict.fromkeys(kernel.kind for kernel in kernels)
    listed = "; ".join(f"{kind} has {', '.join(FIELDS[kind])}" for kind in kinds)
    names = ", ".join(named) or "none"
    raise UnknownScheduleField(
        name=unused[0], target=chip, have=f"its kernels are {names}: {listed}"
    )


def _schedule_grouped(
    kernels: list[KernelOp], pins: Mapping[str, Pins], chip: Chip
) -> None:
    """One tile for all kernels of a row space; blocks for each."""
    told = attributes_of(kernels[0].op)
    shared = {f: v for own in pins.values() for f, v in own.items() if f in TILES}
    works = [_work_of(kernel) for kernel in kernels]

    def plan(base: Pins) -> list[Planned]:
        return [
            _completed(kernel, work, base, pins[kernel.name], chip)
            for kernel, work in zip(kernels, works, strict=True)
        ]

    plans = [plan(base) for base in _tiles(told["rows"], told["experts"], shared)]
    fastest = min(map(_time, plans))
    near = [found for found in plans if _time(found) <= fastest * NEARLY]
    best = min(near, key=lambda found: sum(one.moved for one in found))
    for kernel, one in zip(kernels, best, strict=True):
        kernel.put(one.schedule)


def _time(plan: list[Planned]) -> float:
    return sum(one.seconds for one in plan)


def _tiles(rows: int, experts: int, shared: Pins) -> list[dict[str, int]]:
    """Tiles worth trying, with their chunks: of fewer rows than a chunk if all are."""
    if "tile_rows" in shared:
        tiles = [shared["tile_rows"]]
    else:
        chunk = shared.get("chunk_rows", 1)
        every = tile_choices(rows, experts)
        large = [t for t in every if t >= min(CHUNK_ROWS, every[-1])]
        tiles = [t for t in large if type(chunk) is int and t % max(chunk, 1) == 0]
        tiles = tiles or [chunk]
    return [{"tile_rows": t, "chunk_rows": chunk_rows(t)} | shared for t in tiles]


def _work_of(kernel: KernelOp) -> Work | None:
    piece = kernel.piece
    if piece is None or not piece.products:
        return None
    return work_of(kernel.op, piece, kernel.compute)


def _completed(
    kernel: KernelOp, work: Work | None, base: Pins, pins: Pins, chip: Chip
) -> Planned:
    """Of nearly the fastest schedules that fit and agree with the pins, the one that
    moves least.

    Where none does, one that the verifier will refuse, with an endless time.
    """
    if work is None:
        return Planned(0.0, 0, {**base, **pins})
    tile = base["tile_rows"]
    room = vmem_limit(chip)
    every = ranked(work, tile, chip)
    small = [blocks for blocks in every if least_bytes(work, tile, blocks) <= room]
    agreeing = _agreeing(small, work.kind, pins) or _agreeing(every, work.kind, pins)
    found: list[Planned] = []
    for blocks, fields in agreeing:
        time = seconds(work, tile, blocks, chip)
        if found and time > found[0].seconds * NEARLY:
            break
        schedule = {**base, **fields, **pins}
        values = value_bytes(work, base["chunk_rows"], blocks)
        if fits(kernel, schedule, chip, values):
            moved = hbm_bytes(work, tile, blocks, cores(chip))
            moved += gathered_bytes(work, tile, blocks, chip)
            found.append(Planned(time, moved, schedule))
    if found:
        return min(found, key=lambda plan: plan.moved)
    options = agreeing or _agreeing(every, work.kind, {})
    left = [{**base, **fields, **pins} for _, fields in options]
    least = min(left, key=lambda other: vmem_of(kernel, other, chip))
    return Planned(inf, 0, least)


def _agreeing(
    every: list[Blocks], kind: str, pins: Pins
) -> list[tuple[Blocks, dict[str, Any]]]:
    """Blocks that the pins allow, and their fields."""
    pairs = ((blocks, blocks.fields(kind)) for blocks in every)
    return [
        (blocks, fields)
        for blocks, fields in pairs
        if all(pins.get(name, value) == value for name, value in fields.items())
    ]


def _step_tokens(kernel: KernelOp, chip: Chip) -> int:
    plan, rows, *_ = operand_types(kernel.op)
    row_bytes = rows.shape[1] * BYTES[stored_dtype(rows, kernel.compute)]
    return combined_tokens(rows.shape[1], plan.shape[1], row_bytes, chip)
