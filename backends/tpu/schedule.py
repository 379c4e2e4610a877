"""The TPU's schedules: tiles of rows, blocks of widths, and the bytes that they move.

Of the blocks that fit in VMEM the fastest are taken (`kernel_time`), and of nearly
equal ones those that move the fewest bytes; so weights are read once where that pays,
and rows once where that does.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from math import ceil, sqrt
from typing import Any, Literal, NamedTuple

from backends.chips import Chip
from backends.tpu.routed_rows import expected_tiles

LANES = 128
LEAST_ROWS = 16  # two rows of bfloat16 share a sublane of 8
MOST_ROWS = 4096
CHUNK_ROWS = 128  # rows that are multiplied at once
KERNEL_SHARE = 0.9  # of VMEM; the rest is the compiler's own
STEP_SECONDS = 0.35e-6  # of a grid step's own
EXPOSED = 0.1  # of the shorter of products and traffic, which no overlap hides
_SPREAD = 2  # standard deviations of an expert's rows that a tile has room for
_BUFFERS = 2  # while one block is worked on, the next one is fetched


# What a schedule calls the blocks of a kernel's first and of its second width.
FIELDS: Mapping[str, tuple[str, str]] = {
    "rows": ("block_inner", "block_columns"),
    "sums": ("block_left", "block_right"),
}


WINDOW = "window_rows"
STAY = "rows_stay"


class Blocks(NamedTuple):
    """The sizes that two widths are cut in; whether the kernel fetches tokens' rows.

    Sums have `window` rows of a tile at once, or all of them if it is 0. Of products,
    rows stay on the chip while all blocks of columns pass (`stay`), or the weights do
    while all tiles of an expert pass.
    """

    first: int
    second: int
    fetches: bool = False
    window: int = 0
    stay: bool = False

    def fields(self, kind: str) -> dict[str, Any]:
        """The blocks as a schedule's fields."""
        first, second = FIELDS[kind]
        found = {first: self.first, second: self.second, "fetches": self.fetches}
        return found | ({WINDOW: self.window} if kind == "sums" else {STAY: self.stay})


def blocks_of(schedule: Mapping[str, Any]) -> tuple[int, int]:
    """The sizes that a schedule cuts the two widths in."""
    first, second = FIELDS["rows" if "block_inner" in schedule else "sums"]
    return schedule[first], schedule[second]


def read_blocks(schedule: Mapping[str, Any]) -> Blocks:
    """The blocks that a schedule's fields say."""
    window, stay = schedule.get(WINDOW, 0), schedule.get(STAY, False)
    return Blocks(*blocks_of(schedule), schedule["fetches"], window, stay)


def leaves(widths: tuple[int, int], blocks: tuple[int, int]) -> bool:
    """Whether rows of results leave by copies of their own, and need no window."""
    (first, second), (cut, columns) = widths, blocks
    return cut < first and second % columns == 0 and columns % LANES == 0


@dataclass(frozen=True)
class Work:
    """What a kernel does: `rows` rows over `experts`, products of [first, second].

    Bytes are those of one element, summed over the operands of that kind: `tokens` and
    `inner` are as wide as `first`, `columns` and `results` as `second`. Of the kind
    "sums" the result is [experts, first, second], and tokens lie on `token_side`.
    """

    kind: Literal["rows", "sums"]
    rows: int
    experts: int
    first: int
    second: int
    products: int
    operand_bytes: int  # of an element of what is multiplied
    tokens: int = 0
    inner: int = 0
    columns: int = 0
    results: int = 0
    packed: bool = False  # results are words, made of pairs of columns
    token_side: int = 0  # 0: as wide as `first`, 1: as `second`
    biases: int = 0  # of a column, for every expert
    narrow: bool = False  # matrices are stored in one byte an element

    @property
    def matrix_bytes(self) -> int:
        """Bytes of a stored element of the matrices."""
        return 1 if self.narrow else self.operand_bytes


def tile_choices(rows: int, experts: int) -> list[int]:
    """Tiles up to the rows of an expert, the largest ones last.

    Powers of two, and parts of what uniform routing gives an expert, spread included:
    whole chunks, so that few experts need another tile for their last rows.
    """
    mean = -(-rows // max(experts, 1))
    found = [LEAST_ROWS]
    while found[-1] < min(mean, MOST_ROWS):
        found.append(found[-1] * 2)
    if experts > 1 and mean > CHUNK_ROWS:
        most = mean + _SPREAD * sqrt(mean)
        parts = (ceil(most / (n * CHUNK_ROWS)) * CHUNK_ROWS for n in range(1, 5))
        found += [tile for tile in parts if tile <= min(2 * mean, MOST_ROWS)]
    return sorted(set(found))


def chunk_rows(tile_rows: int) -> int:
    """Rows of a tile that are multiplied at once: whole chunks fill it."""
    chunk = CHUNK_ROWS
    while chunk > LEAST_ROWS and tile_rows % chunk:
        chunk //= 2
    return chunk


def combined_tokens(width: int, choices: int, row_bytes: int, chip: Chip) -> int:
    """Tokens that are combined in a step: as many as leave most of VMEM free."""
    tokens = 128
    per_token = _BUFFERS * choices * row_bytes + 3 * width * 4
    while tokens > 16 and tokens * per_token > vmem_limit(chip) // 2:
        tokens //= 2
    return tokens


def vmem_limit(chip: Chip) -> int:
    """Bytes of VMEM that a kernel may take on a chip."""
    value = chip.on_chip_bytes.value
    assert value is not None
    return int(value * KERNEL_SHARE)


def cores(chip: Chip) -> int:
    """TensorCores that share one device: two on v4 and v5p."""
    return 2 if chip.name in ("tpu-v4", "tpu-v5p") else 1


def device_share(chip: Chip) -> float:
    """The share of a chip that is one device: half of a TPU7x, all of the others."""
    assert chip.cores.value is not None
    return cores(chip) / chip.cores.value


def cuts(width: int) -> list[int]:
    """Blocks that fill a width, largest first: all of it, or whole lanes."""
    lanes = width // LANES if width % LANES == 0 else 0
    return [width] + [n * LANES for n in range(lanes - 1, 0, -1) if lanes % n == 0]


def ragged_cuts(width: int) -> list[int]:
    """Blocks of whole lanes, the last of which may go beyond a width of broken ones."""
    if width % LANES == 0:
        return cuts(width)
    lanes = -(-width // LANES)
    least = {-(-lanes // blocks) for blocks in range(2, lanes + 1)}
    return [width, *(n * LANES for n in sorted(least, reverse=True))]


def candidates(work: Work, tile: int) -> Iterator[Blocks]:
    """Every way to cut the widths that the kernels can run, and a tile for sums."""
    windows = parts_of(tile) if work.kind == "sums" else [0]
    firsts = cuts(work.first) if work.kind == "rows" else ragged_cuts(work.first)
    seconds = [
        cut
        for cut in ragged_cuts(work.second)
        if not work.packed or cut % (2 * LANES) == 0 or cut == work.second
    ]
    for first, second, window in product(firsts, seconds, windows):
        sweeps = work.kind == "rows" and first == work.first and second < work.second
        for stay in (False, True) if sweeps else (False,):
            if can_fetch(work, first, second):
                yield Blocks(first, second, True, window, stay)
            yield Blocks(first, second, False, window, stay)


def parts_of(tile: int) -> list[int]:
    """Equal parts of a tile, in whole chunks, the largest first."""
    chunks = max(tile // chunk_rows(tile), 1)
    return [tile // n for n in range(1, chunks + 1) if chunks % n == 0]


def can_fetch(work: Work, first: int, second: int) -> bool:
    """Whether the kernel can fetch rows itself, in whole lanes of words.

    Where rows are what is added up, whole ones: else each block would fetch them anew.
    """
    width, cut = (work.second, second) if work.token_side else (work.first, first)
    row_bytes = [size * work.operand_bytes for size in (width, cut)]
    whole = work.kind == "sums" or width == cut
    return work.tokens > 0 and whole and all(b % (4 * LANES) == 0 for b in row_bytes)


def value_bytes(work: Work, chunk: int, blocks: Blocks) -> int:
    """The most VMEM that the values of a chunk take, where registers are too few."""
    first, second = (-(-cut // LANES) * LANES for cut in blocks[:2])
    if work.kind == "sums":
        left, right = operands_of(work)
        parts = 2 if work.operand_bytes == 4 else 1  # float32 as parts of bfloat16
        turned = -(-chunk // LANES) * LANES * work.operand_bytes  # rows along lanes
        lefts = parts * max(left * chunk * 4, turned) * first
        return lefts + chunk * 4 * parts * right * second
    made = 3 * work.products * second
    values = chunk * 4 * (first * (2 if work.tokens else 1) + made)
    if work.narrow:  # converted, if the compiler keeps them
        values += work.products * work.operand_bytes * first * second
    return values


def operands_of(work: Work) -> tuple[int, int]:
    """How many arrays of rows each side of sums is made of."""
    sides = [work.inner, work.columns]
    sides[work.token_side] += work.tokens
    left, right = (max(side // work.operand_bytes, 1) for side in sides)
    return left, right


def least_bytes(work: Work, tile: int, blocks: Blocks) -> int:
    """VMEM that a kernel takes at the least: matrices or sums, and windows of rows."""
    area = blocks.first * blocks.second
    if work.kind == "sums":
        rows = work.inner * blocks.first + work.columns * blocks.second
        return area * (4 + work.results) + _BUFFERS * (blocks.window or tile) * rows
    rows = work.inner * blocks.first + work.columns * blocks.second
    held = work.products * work.matrix_bytes * area
    copied = leaves((work.first, work.second), blocks[:2])
    made = work.results * (1 if copied else _BUFFERS)
    made += 4 if blocks.first < work.first else 0  # sums
    return _BUFFERS * (held + tile * rows) + tile * blocks.second * made


def blocks_in(work: Work, blocks: Blocks) -> tuple[int, int]:
    """How many blocks the two widths are cut in."""
    return -(-work.first // blocks.first), -(-work.second // blocks.second)


def tiles_of(work: Work, tile: int) -> int:
    """Tiles that have rows, on average over uniform routings."""
    return round(expected_tiles(work.rows, work.experts, tile))


def windows_of(work: Work, tile: int, blocks: Blocks) -> int:
    """Steps of sums' grid along the rows: every window of a tile that has rows."""
    return tiles_of(work, tile) * (tile // (blocks.window or tile))


def gathered_bytes(work: Work, tile: int, blocks: Blocks, chip: Chip) -> int:
    """Bytes of the copy of tokens' rows before a kernel that does not fetch them.

    A kernel copies chunks that have rows; where it cannot, XLA gathers every place of
    the row space.
    """
    if blocks.fetches:
        return 0
    width = work.second if work.token_side else work.first
    chunk, row = chunk_rows(tile), width * work.tokens
    held = chunk * width * (4 * work.tokens + 4)
    if row % (4 * LANES) or held > vmem_limit(chip):
        return 2 * (work.rows // tile + min(work.experts, work.rows)) * tile * row
    return (work.rows + tiles_of(work, chunk) * chunk) * row


def hbm_bytes(work: Work, tile: int, blocks: Blocks, cores: int = 1) -> int:
    """Bytes that a kernel reads and writes, on so many cores.

    Blocks of rows move whole tiles; rows that the kernel fetches itself come alone.
    """
    firsts, seconds = blocks_in(work, blocks)
    window = blocks.window or tile
    tiles = tiles_of(work, window)
    moved = tiles * window
    width = work.second if work.token_side else work.first
    fetched = work.rows + work.experts * LEAST_ROWS // 2 if blocks.fetches else moved
    if work.kind == "sums":
        left, right = work.inner * work.first, work.columns * work.second
        token = work.tokens * width * (firsts if work.token_side else seconds)
        read = moved * (left * seconds + right * firsts) + fetched * token
        result = work.experts * work.first * work.second * work.results
        return read + result
    sweeps = 1 if blocks.stay else seconds
    read = sweeps * work.first * (fetched * work.tokens + moved * work.inner)
    once = moved * (work.columns + work.results) * work.second
    experts = min(work.experts, work.rows, tiles)
    once += work.biases * experts * work.second
    matrix = work.products * work.matrix_bytes * work.first * work.second
    return read + once + round(matrix * loads(work, tile, blocks, cores))


def loads(work: Work, tile: int, blocks: Blocks, cores: int) -> float:
    """How often a matrix is read: once an expert if it stays, else once a tile.

    Cores that share an expert's tiles read its matrix each; some take up their tiles
    where an expert begins.
    """
    tiles = tiles_of(work, tile)
    if reloads(work, blocks):
        return tiles
    experts = min(work.experts, work.rows, tiles)
    return experts + (cores - 1) * (1 - experts / max(tiles, 1))


def reloads(work: Work, blocks: Blocks) -> bool:
    """Whether every tile reads its expert's matrices, and not only the first one."""
    return blocks.first < work.first or blocks.stay
