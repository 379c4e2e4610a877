"""The TPU's default schedule: legal blocks, and no more traffic than they need."""

import pytest

from backends.chips import CHIPS
from backends.tpu.kernel_time import ranked, seconds
from backends.tpu.routed_rows import (
    expected_multiplied,
    expected_tiles,
    last_tiles,
)
from backends.tpu.schedule import (
    CHUNK_ROWS,
    LANES,
    LEAST_ROWS,
    MOST_ROWS,
    Blocks,
    Work,
    candidates,
    chunk_rows,
    cuts,
    gathered_bytes,
    hbm_bytes,
    ragged_cuts,
    tile_choices,
    tiles_of,
)

WIDTHS = [1, 24, 127, 128, 129, 768, 2048, 7168, 14336, 32768]
TPUS = [chip for chip in CHIPS.values() if chip.kind == "tpu"]
QWEN = Work("rows", 65536, 128, 2048, 768, 2, 2, tokens=2, results=2)
GLAM = Work("rows", 8192, 1, 8192, 32768, 1, 2, tokens=2, results=2)
GRADIENT = Work("sums", 65536, 128, 768, 2048, 1, 2, 2, 2, results=2, token_side=1)


@pytest.mark.parametrize("width", WIDTHS)
def test_cuts_are_the_width_or_whole_lanes_that_divide_it(width):
    found = cuts(width)
    assert found[0] == width
    assert found == sorted(found, reverse=True)
    assert all(width % cut == 0 for cut in found)
    assert all(cut % LANES == 0 for cut in found[1:])


def test_blocks_of_a_broken_width_are_whole_lanes():
    assert ragged_cuts(768) == cuts(768)
    assert ragged_cuts(2880)[:4] == [2880, 1536, 1024, 768]
    assert ragged_cuts(2880)[-1] == LANES
    assert ragged_cuts(100) == [100]


@pytest.mark.parametrize("rows", [0, 1, 100, 4096, 65536, 8192 * 64])
@pytest.mark.parametrize("experts", [1, 8, 64, 257])
def test_tiles_are_whole_chunks_and_no_larger_than_an_experts_rows(rows, experts):
    for tile in tile_choices(rows, experts):
        assert LEAST_ROWS <= tile <= MOST_ROWS
        assert tile % chunk_rows(tile) == 0
        assert tile == LEAST_ROWS or tile // 2 < rows / experts + CHUNK_ROWS


@pytest.mark.parametrize("chip", TPUS, ids=lambda chip: chip.name)
@pytest.mark.parametrize("work", [QWEN, GLAM, GRADIENT])
def test_every_way_to_cut_is_ranked_by_its_time(chip, work):
    for tile in tile_choices(work.rows, work.experts):
        found = ranked(work, tile, chip)
        assert sorted(found) == sorted(candidates(work, tile))
        times = [seconds(work, tile, blocks, chip) for blocks in found]
        assert times == sorted(times)


@pytest.mark.parametrize(("tile", "chunk"), [(16, 16), (96, 32), (192, 64), (640, 128)])
def test_chunks_are_the_largest_powers_of_two_that_fill_a_tile(tile, chunk):
    assert chunk_rows(tile) == chunk


def test_only_whole_rows_of_whole_lanes_of_words_are_fetched():
    assert any(blocks.fetches for blocks in candidates(QWEN, 256))
    for blocks in candidates(QWEN, 256):
        assert not blocks.fetches or blocks.first == QWEN.first
    narrow = Work("rows", 64, 2, 128, 128, 1, 2, tokens=2, results=2)
    assert not any(blocks.fetches for blocks in candidates(narrow, 64))


def test_bytes_of_a_kernel_that_fetches_its_rows():
    """Rows come alone, results leave in whole tiles, matrices are read once."""
    blocks = next(b for b in candidates(QWEN, 256) if b.fetches)
    rows, matrices = 65536 + 128 * 8, 128 * 2 * 2048 * 768 * 2
    tiles = 318  # of 512 rows or so an expert: the third one for half of them
    places = tiles * 256
    expected = rows * 2048 * 2 + matrices + places * 768 * 2
    assert hbm_bytes(QWEN, 256, blocks) == expected
    before = blocks._replace(fetches=False)
    expected += (places - rows) * 2048 * 2
    assert hbm_bytes(QWEN, 256, before) == expected
    chip = CHIPS["tpu-v5e"]
    chunks = tiles_of(QWEN, 128) * 128
    assert gathered_bytes(QWEN, 256, before, chip) == (65536 + chunks) * 2048 * 2
    assert gathered_bytes(QWEN, 256, blocks, chip) == 0
    broken = Work("rows", 65536, 128, 2000, 768, 2, 2, tokens=2, results=2)
    every = (65536 // 256 + 128) * 256  # XLA gathers the whole row space
    assert gathered_bytes(broken, 256, before, chip) == 2 * every * 2000 * 2


def test_rows_of_sums_are_fetched_in_blocks_of_whole_words():
    """Each block of the other side fetches every row once, whatever its blocks."""
    fetching = [blocks for blocks in candidates(GRADIENT, 256) if blocks.fetches]
    assert {blocks.second for blocks in fetching} == {2048, 1024, 512, 256}
    whole, cut = (
        hbm_bytes(GRADIENT, 256, Blocks(768, second, True)) for second in (2048, 1024)
    )
    rows = tiles_of(GRADIENT, 256) * 256 * 768 * 2
    assert cut == whole + rows


def test_the_tiles_of_an_expert_have_room_for_the_spread_of_its_rows():
    """2048 rows and 90 more or less: two tiles of 1152, not two or three of 1024."""
    assert 1152 in tile_choices(16384, 8)
    assert round(expected_tiles(16384, 8, 1152)) == 16
    assert round(expected_tiles(16384, 8, 1024)) == 20


MIXTRAL = Work("rows", 16384, 8, 14336, 4096, 1, 2, inner=2, results=2, packed=True)
GLAM_DOWN = Work("rows", 8192, 1, 32768, 8192, 1, 2, inner=2, results=2, packed=True)


def test_a_tile_of_the_few_rows_left_over_hides_no_traffic():
    """Half of the experts have a few rows more than 2048: all matrices once more."""
    chip, blocks = CHIPS["tpu-v5e"], Blocks(2048, 4096)
    assert 2176 in tile_choices(16384, 8)
    times = [seconds(MIXTRAL, tile, blocks, chip) for tile in (2176, 2048)]
    # By the simulator 10.26 and 11.60 ms, where it is five of eight.
    assert times[0] * 1e3 == pytest.approx(10.26, rel=0.05)
    assert times[1] > 1.07 * times[0]


@pytest.mark.parametrize(
    ("cut", "columns", "simulated"),
    [
        (2048, 4096, 22.894),
        (1024, 4096, 23.391),
        (512, 4096, 23.540),
        (128, 8192, 24.729),
        (1024, 1024, 24.907),
        (256, 1024, 31.320),
    ],
)
def test_cuts_of_the_inner_width_cost_what_the_simulator_says(cut, columns, simulated):
    """GLaM 64B's slice of one expert on v5e; the products alone take 22.3 ms."""
    found = seconds(GLAM_DOWN, 2048, Blocks(cut, columns), CHIPS["tpu-v5e"])
    assert found * 1e3 == pytest.approx(simulated, rel=0.06)


@pytest.mark.parametrize(
    ("rows", "experts", "tile"), [(8192, 1, 2048), (16384, 8, 512)]
)
def test_last_tiles_are_one_for_every_expert_with_rows(rows, experts, tile):
    found = last_tiles(rows, experts, tile, 128)
    assert sum(number for _, number in found) == pytest.approx(experts)
    ends = sum(size * number for size, number in found)
    full = (expected_tiles(rows, experts, tile) - experts) * tile
    assert full + ends == pytest.approx(expected_multiplied(rows, experts, 128))
