"""The router's default schedule: tokens of a step, pieces of rows, runs of tokens.

Columns are whole lanes, so a tile is a multiple of 128 tokens, or a whole run. Weights
are held on the chip; only where they do not fit, rows are cut in pieces, one after the
other.
"""

from collections.abc import Iterator
from typing import NamedTuple

from backends.chips import Chip
from backends.tpu.schedule import EXPOSED, STEP_SECONDS, cores, cuts, vmem_limit
from ir import mlir
from ir.router_sizes import LANES, RouterSizes, sizes_of
from ir.types import to_attribute

MOST_TOKENS = 1024
RUN_TOKENS = 32  # a run's tokens are whole rows of memory, whatever their dtype
PASSES = 6  # products of bfloat16 that make one of float32


class RouterBlocks(NamedTuple):
    """How tokens and rows are cut."""

    tile_tokens: int
    piece: int
    runs: int


def schedule_routers(module: mlir.Module, chip: Chip) -> None:
    """Give every router of a module its blocks."""
    for op in mlir.walk(module.body):
        if op.operation.name == "kernel.router":
            fields = router_blocks(sizes_of(op), chip)._asdict()
            op.operation.attributes["schedule"] = to_attribute(fields)


def router_blocks(sizes: RouterSizes, chip: Chip) -> RouterBlocks:
    """The legal blocks of least modelled time; the smallest where nothing fits."""
    limit = vmem_limit(chip)
    runs = runs_of(sizes, chip)
    every = list(candidates(sizes, runs))
    fitting = [b for b in every if sizes.vmem_bytes(b.tile_tokens, b.piece) <= limit]
    if not fitting:
        return min(every, key=lambda b: sizes.vmem_bytes(b.tile_tokens, b.piece))
    return min(fitting, key=lambda b: seconds(sizes, b, chip))


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
    made = sum(2 * n * w * PASSES for n, w, _ in (*sizes.weights, *sizes.sums))
    times = made * blocks.tile_tokens / flops, moved / bandwidth
    step = max(times) + EXPOSED * min(times)
    shared = cores(chip) if blocks.runs % cores(chip) == 0 else 1
    return ((tiles / shared + 1) * step) + tiles * pieces * STEP_SECONDS / shared
