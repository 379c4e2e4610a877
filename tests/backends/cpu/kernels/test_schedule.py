import pytest

from backends.cpu.schedule import default_schedule


@pytest.mark.parametrize("rows", [1, 2, 8, 31, 64, 65, 255, 257, 4096])
def test_tiles_ascend_and_the_last_holds_all_rows_or_is_the_largest(rows):
    tiles = default_schedule(rows, by_columns=False).tiles
    assert list(tiles) == sorted(set(tiles))
    assert tiles[-1] >= rows or tiles[-1] == 256
    assert all(tile < rows for tile in tiles[:-1])


def test_a_cpu_that_multiplies_bfloat16_keeps_it():
    schedule = default_schedule(4096, by_columns=True, bfloat16_products=True)
    assert schedule.product_dtype == "bfloat16"
    assert all(tile & (tile - 1) == 0 for tile in schedule.tiles)


def test_columns_come_in_tiles_that_the_kernel_takes_whole():
    tiles = default_schedule(4096, by_columns=True).tiles
    assert tiles[-1] == 64
    assert all(tile % 16 == 0 for tile in tiles if tile > 16)
