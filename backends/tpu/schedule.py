"""The TPU's default schedule: tiles of rows, and blocks of widths, for one chip."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from backends.chips import Chip

LANES = 128
LEAST_ROWS = 16  # two rows of bfloat16 share a sublane of 8
MOST_ROWS = 512
MOST_PADDING = 0.1  # of an expert's rows, on average
KERNEL_SHARE = 0.75  # of VMEM; the rest is the compiler's own


class Blocks(NamedTuple):
    """The sizes that two widths are cut in."""

    first: int
    second: int


def tile_rows(rows: int, experts: int) -> int:
    """Rows of a tile, for `rows` rows over `experts`.

    A tile is half empty on average, once an expert: the largest power of two that pads
    no more than `MOST_PADDING`. Larger tiles use a block of weights for more rows.
    """
    most = 2 * MOST_PADDING * rows / max(experts, 1)
    tile = LEAST_ROWS
    while tile * 2 <= min(most, MOST_ROWS):
        tile *= 2
    return tile


def vmem_limit(chip: Chip) -> int:
    """Bytes of VMEM that a kernel may take on a chip."""
    value = chip.on_chip_bytes.value
    assert value is not None
    return int(value * KERNEL_SHARE)


def cuts(width: int) -> list[int]:
    """Blocks that a width can be cut in, largest first: all of it, or whole lanes."""
    lanes = width // LANES if width % LANES == 0 else 0
    return [width] + [n * LANES for n in range(lanes - 1, 0, -1) if lanes % n == 0]


def largest_blocks(
    widths: Sequence[int], costs: Iterable[tuple[int, int, int]], limit: int
) -> Blocks:
    """The largest blocks of two widths whose buffers fit in `limit` bytes.

    `costs` are bytes for each element of (first, second, first x second). The first
    width is kept whole if anything fits: then a block of weights stays in place while
    the tiles of its expert pass. Where nothing fits, the smallest are returned.
    """
    per_first, per_second, per_both = map(sum, zip(*costs, strict=True))
    for first in cuts(widths[0]):
        for second in cuts(widths[1]):
            held = per_first * first + per_second * second + per_both * first * second
            if held <= limit:
                return Blocks(first, second)
    return Blocks(cuts(widths[0])[-1], cuts(widths[1])[-1])
