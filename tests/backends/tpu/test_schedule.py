"""The TPU's default schedule: legal blocks, and tiles that pad little."""

import pytest

from backends.chips import CHIPS
from backends.tpu.schedule import (
    LANES,
    LEAST_ROWS,
    MOST_PADDING,
    cuts,
    largest_blocks,
    tile_rows,
    vmem_limit,
)

WIDTHS = [1, 24, 127, 128, 129, 768, 2048, 7168, 14336, 32768]
TPUS = [chip for chip in CHIPS.values() if chip.kind == "tpu"]


@pytest.mark.parametrize("width", WIDTHS)
def test_cuts_are_the_width_or_whole_lanes_that_divide_it(width):
    found = cuts(width)
    assert found[0] == width
    assert found == sorted(found, reverse=True)
    assert all(width % cut == 0 for cut in found)
    assert all(cut % LANES == 0 for cut in found[1:])


@pytest.mark.parametrize("rows", [0, 1, 100, 4096, 65536, 8192 * 64])
@pytest.mark.parametrize("experts", [1, 8, 64, 257])
def test_tiles_pad_little_unless_experts_have_few_rows(rows, experts):
    tile = tile_rows(rows, experts)
    assert tile >= LEAST_ROWS
    assert tile == LEAST_ROWS or tile / 2 <= MOST_PADDING * rows / experts


@pytest.mark.parametrize("chip", TPUS, ids=lambda chip: chip.name)
@pytest.mark.parametrize("widths", [(8192, 32768), (32768, 8192), (768, 3072)])
def test_blocks_fit_the_memory_of_the_chip(chip, widths):
    costs = [(2 * 512 * 2, 2 * 512 * 2 + 512 * 4, 2 * 2)]
    first, second = largest_blocks(widths, costs, vmem_limit(chip))
    per_first, per_second, per_both = costs[0]
    held = per_first * first + per_second * second + per_both * first * second
    assert held <= vmem_limit(chip)
    assert first in cuts(widths[0])
    assert second in cuts(widths[1])
