"""The modelled time of a TPU's kernel, by which default schedules are chosen.

Tile by tile, a kernel takes the longer of its products' time and its memory's: a tile
that is nearly empty hides nothing. Beside that, products of a chunk wait for their
first results, and every row that is copied takes time of its own.
"""

from collections.abc import Iterator
from typing import NamedTuple

from backends.chips import Chip
from backends.tpu.narrow import SLOW
from backends.tpu.routed_rows import expected_multiplied, last_tiles
from backends.tpu.schedule import (
    STEP_SECONDS,
    Blocks,
    Work,
    blocks_in,
    candidates,
    chunk_rows,
    cores,
    device_share,
    gathered_bytes,
    hbm_bytes,
    loads,
    reloads,
    tiles_of,
    windows_of,
)

COPY_CYCLES = 11  # to start the copy of a row, by the profile of Qwen3's up products
ALIKE = 4  # power by which products and traffic add up, by profiles on v4 and v5e
# Between the products of two chunks in a block: results are on their way, are added up
# and stored, and the matrix unit has nothing to do. By profiles of one kernel cut in
# seven ways on v5e it is 205 to 232, however wide a block is, where little is spilled.
FILL_CYCLES = 215
FLOAT32_PASSES = 6  # products of bfloat16 that make one of float32


class Share(NamedTuple):
    """Tiles that are alike: how many, rows that are multiplied and bytes of each."""

    number: float
    rows: float
    moved: float


def seconds(work: Work, tile: int, blocks: Blocks, chip: Chip) -> float:
    """The modelled time of a kernel."""
    bandwidth = chip.hbm_bandwidth.value
    assert bandwidth is not None
    bandwidth *= device_share(chip)
    busy = gathered_bytes(work, tile, blocks, chip) / bandwidth  # by an op of its own
    for share in shares(work, tile, blocks, cores(chip)):
        needed = share.rows * row_seconds(work, tile, blocks, chip)
        busy += share.number * overlapped(needed, share.moved / bandwidth)
    if work.narrow and chip.name in SLOW:
        busy += widened(work, tile, blocks) / SLOW[chip.name]
    firsts, columns = blocks_in(work, blocks)
    sweeps = firsts * (1 if blocks.stay else columns)
    copied = work.rows * (sweeps if blocks.fetches else work.tokens > 0)
    steps = windows_of(work, tile, blocks) * firsts * columns
    alone = steps * STEP_SECONDS + copied * COPY_CYCLES / clock_of(chip)
    return busy + alone / cores(chip)


def overlapped(products: float, traffic: float) -> float:
    """The longer of both, and a little more: alike, they wait for each other."""
    return float((products**ALIKE + traffic**ALIKE) ** (1 / ALIKE))


def shares(work: Work, tile: int, blocks: Blocks, cores: int) -> Iterator[Share]:
    """The tiles of a kernel by the rows in them; those of sums all together.

    Where matrices stay, an expert's last tile has to hide the next one's.
    """
    moved = hbm_bytes(work, tile, blocks, cores)
    if work.kind == "sums":
        yield Share(1, multiplied_rows(work, tile), moved)
        return
    chunk = chunk_rows(tile)
    last = last_tiles(work.rows, work.experts, tile, chunk)
    number, tiles = sum(n for _, n in last), tiles_of(work, tile)
    area = work.products * work.matrix_bytes * work.first * work.second
    matrices = area * loads(work, tile, blocks, cores)
    rows = (moved - matrices) / max(tiles, 1)
    every, ends = matrices / max(tiles, 1), 0.0
    if not reloads(work, blocks):
        every, ends = 0.0, matrices / max(number, 1)
    yield Share(max(tiles - number, 0), tile, rows + every)
    for size, count in last:
        yield Share(count, size, rows + every + ends)


def row_seconds(work: Work, tile: int, blocks: Blocks, chip: Chip) -> float:
    """What a row's products take, those of columns beyond their width too."""
    flops = chip.bf16_flops.value
    assert flops is not None
    firsts, columns = blocks_in(work, blocks)
    passes = FLOAT32_PASSES if work.operand_bytes == 4 else 1
    done = firsts * blocks.first * columns * blocks.second
    fills = firsts * columns / chunk_rows(tile) * FILL_CYCLES
    products = 2 * done * work.products * passes / (flops * device_share(chip))
    return products + fills / clock_of(chip) / cores(chip)


def multiplied_rows(work: Work, tile: int) -> float:
    """Rows that are multiplied, the padding of last chunks too."""
    return expected_multiplied(work.rows, work.experts, chunk_rows(tile))


def clock_of(chip: Chip) -> float:
    assert chip.clock.value is not None
    return chip.clock.value


def widened(work: Work, tile: int, blocks: Blocks) -> int:
    """Elements of matrices that a kernel converts by block: of every one that comes."""
    times = loads(work, tile, blocks, cores=1)
    return round(work.products * work.first * work.second * times)


def ranked(work: Work, tile: int, chip: Chip) -> list[Blocks]:
    """The candidates by their modelled time, the fastest first."""
    return sorted(
        candidates(work, tile), key=lambda b: (seconds(work, tile, b, chip), -b.first)
    )
