"""The router's default schedule: tokens of a step, pieces of rows, runs of tokens.

Columns are whole lanes, so a tile is a multiple of 128 tokens, or a whole run. Weights
are held on the chip; only where they do not fit, rows are cut in pieces, one after the
other.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from backends.chips import Chip
from backends.schedule_choices import Choices, chosen_fields
from backends.tpu.kernel_ops import KernelOp, router_kernels
from backends.tpu.kernel_time import FLOAT32_PASSES
from backends.tpu.router_rules import router_reason, run_cores, run_tokens
from backends.tpu.schedule import EXPOSED, STEP_SECONDS, cores, cuts, vmem_limit
from ir import mlir
from ir.router_sizes import LANES, RouterSizes, sizes_of

MOST_TOKENS = 1024
RUN_TOKENS = 32  # a run's tokens are whole rows of memory, whatever their dtype
NO_PINS: Mapping[str, Any] = {}


class RouterBlocks(NamedTuple):
    """How tokens and rows are cut."""

    tile_tokens: int
    piece: int
    runs: int


def schedule_routers(
    module: mlir.Module, choices: Choices, chip: Chip
) -> list[KernelOp]:
    """Give every router of a module its blocks: the user's, and the model's."""
    kernels = router_kernels(module)
    for kernel in kernels:
        pins = kernel.schedule | chosen_fields(kernel.name, kernel.fields, choices)
        kernel.put(router_blocks(sizes_of(kernel.op), chip, pins)._asdict() | pins)
    return kernels


def router_blocks(
    sizes: RouterSizes, chip: Chip, pins: Mapping[str, Any] = NO_PINS
) -> RouterBlocks:
    """The legal blocks of least modelled time that agree with the pins.

    Where none fits, the smallest legal ones; where none is legal, some that are not.
    """
    limit = vmem_limit(chip)
    least: list[RouterBlocks] = []
    for runs in dict.fromkeys((runs_of(sizes, chip), sizes.groups)):
        every = _agreeing(sizes, runs, pins)
        legal = [blocks for blocks in every if not _wrong(sizes, blocks)]
        fitting = [b for b in legal if _vmem(sizes, b) <= limit]
        if fitting:
            return min(fitting, key=lambda b: seconds(sizes, b, chip))
        least = least or sorted(legal, key=lambda b: _vmem(sizes, b))[:1] or every[:1]
    return least[0]


def _agreeing(
    sizes: RouterSizes, runs: int, pins: Mapping[str, Any]
) -> list[RouterBlocks]:
    """The candidates with what is pinned put in its place."""
    chosen = {"runs": runs, **{f: pins[f] for f in RouterBlocks._fields if f in pins}}
    found = candidates(sizes, sizes.tokens // run_tokens(sizes, chosen))
    return list(dict.fromkeys(blocks._replace(**chosen) for blocks in found))


def _wrong(sizes: RouterSizes, blocks: RouterBlocks) -> bool:
    fields = blocks._asdict()
    return any(router_reason(sizes, fields, f, v) for f, v in fields.items())


def _vmem(sizes: RouterSizes, blocks: RouterBlocks) -> int:
    return sizes.vmem_bytes(blocks.tile_tokens, blocks.piece)


def runs_of(sizes: RouterSizes, chip: Chip) -> int:
    """Runs of consecutive tokens: the groups, halved where that serves two cores."""
    needed = cores(chip)
    size = sizes.tokens // sizes.groups
    if sizes.groups % needed == 0 or size % (needed * RUN_TOKENS):
        return sizes.groups
    return sizes.groups * needed


def candidates(sizes: RouterSizes, runs: int) -> Iterator[RouterBlocks]:
    """Every cut that the kernel can run."""
    size = sizes.tokens // runs
    tiles = [LANES << n for n in range(4) if LANES << n < size]
    if size <= MOST_TOKENS:
        tiles.append(size)
    for tile in tiles:
        for piece in cuts(sizes.width) if sizes.cuts else [sizes.width]:
            yield RouterBlocks(tile, piece, runs)


def seconds(sizes: RouterSizes, blocks: RouterBlocks, chip: Chip) -> float:
    """The modelled time: products or traffic of all tiles, and one more to begin."""
    flops, bandwidth = chip.bf16_flops.value, chip.hbm_bandwidth.value
    assert flops is not None
    assert bandwidth is not None
    pieces = sizes.width // blocks.piece
    tiles = -(-sizes.tokens // (blocks.tile_tokens * blocks.runs)) * blocks.runs
    rows = sum(width * size for width, size in sizes.rows)
    moved = blocks.tile_tokens * (rows + 4 * sum(sizes.columns) * pieces)
    made = sum(2 * n * w * FLOAT32_PASSES for n, w, _ in (*sizes.weights, *sizes.sums))
    times = made * blocks.tile_tokens / flops, moved / bandwidth
    step = max(times) + EXPOSED * min(times)
    shared = run_cores(blocks.runs, chip)
    return ((tiles / shared + 1) * step) + tiles * pieces * STEP_SECONDS / shared
