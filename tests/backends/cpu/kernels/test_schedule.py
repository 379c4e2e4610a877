import pytest

from backends.cpu.schedule import default_schedule


@pytest.mark.parametrize("rows", [1, 2, 8, 31, 64, 65, 255, 257, 4096])
def test_tiles_ascend_and_the_last_holds_all_rows_or_is_the_largest(rows):
    tiles = default_schedule(rows, 1, 8, (64, 128), "float32").tiles
    assert list(tiles) == sorted(set(tiles))
    assert tiles[-1] >= rows or tiles[-1] == 256
    assert all(tile < rows for tile in tiles[:-1])


def test_schedule_does_not_depend_on_experts():
    few, many = (default_schedule(2048, 2, e, (768, 3072), "float32") for e in (8, 256))
    assert few == many
