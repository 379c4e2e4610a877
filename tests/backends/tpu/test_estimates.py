"""Estimates of kernels, against sums that are done by hand."""

import pytest

import moegen
from backends.tpu.routed_rows import expected_multiplied, multiplied
from moegen.layers import find_layer

SIZES = {"tokens": 1024, "model": 256, "hidden": 512, "experts": 4, "k": 2}
ROWS = 2048


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Kernels of mixtral at a schedule of our own, for v5p and its two cores."""
    op = moegen.compile(
        find_layer("mixtral"),
        "tpu-v5p",
        "bfloat16",
        tmp_path_factory.mktemp("cache"),
        schedule={
            "tile_rows": 128,
            "grouped_rows.block_columns": 256,
            "forward.grouped_rows.0.rows_stay": False,
            "forward.grouped_rows.0.fetches": True,
        },
        **SIZES,
    )
    return {row.estimate.name: row for row in op.report()}


@pytest.mark.parametrize(
    ("held", "chunk", "expected"),
    [
        (0, 128, 0),
        (1, 128, 16),
        (17, 128, 32),
        (64, 128, 64),
        (65, 128, 128),
        (130, 128, 144),
        (256, 128, 256),
        (130, 64, 144),
        (33, 16, 48),
    ],
)
def test_the_last_chunk_is_as_small_as_it_may_be(held, chunk, expected):
    assert multiplied(held, chunk) == expected


def test_padding_on_average_lies_between_none_and_a_chunk_each():
    assert expected_multiplied(130, 1, 128) == 144
    assert 65536 < expected_multiplied(65536, 128, 128) < 65536 * 1.05
    few = expected_multiplied(2, 64, 16)
    assert 31 < few < 32  # two tokens seldom meet in one expert


def test_products_blocks_and_steps_of_a_kernel_of_rows(rows):
    up = rows["forward.grouped_rows.0"]
    told = up.estimate
    assert up.flops == 2 * 2 * ROWS * 256 * 512
    assert told.flops == int(4 * expected_multiplied(ROWS, 4, 128) * 256 * 512)
    # 18 tiles: a fifth one for half of the experts; both cores take a share.
    assert told.grid == (2, 2, 9, 1)
    assert told.parallel_steps == 2
    x, words = 1024 * 256 * 2, 2
    fetched = (ROWS + 4 * 8) * 256 * 2 * words
    # Both cores read the matrices of an expert whose tiles they share: of 18 tiles,
    # the other core's first one is not an expert's first in 14 cases.
    weights, results = round(2 * (4 + 14 / 18) * 256 * 512 * 2), 18 * 128 * 512 * 2
    assert told.hbm_bytes == fetched + weights + results + 2 * x
    windows = 2 * 2 * 256 * 256 * 2 + 2 * 128 * 256 * 2
    buffers, compilers = 2 * 128 * 128 * 4, 72 * 128 * 4
    assert told.on_chip_bytes == windows + buffers + compilers


def test_the_roofline_is_the_longer_of_two_times(rows):
    up = rows["forward.grouped_rows.0"].estimate
    assert up.bound == "HBM"
    assert up.seconds == pytest.approx(up.hbm_bytes / 2.765e12)
    combine = rows["forward.combine_rows.0"].estimate
    assert combine.bound == "HBM"
    assert combine.grid == (2, 4)


def test_half_of_a_tpu7x_is_one_device(tmp_path):
    layer, seconds = find_layer("hash"), {}
    wide = {"tokens": 4096, "model": 1024, "hidden": 1024}
    for chip in ("tpu-v5p", "tpu7x"):
        op = moegen.compile(layer, chip, "float32", tmp_path, experts=2, **wide)
        told = next(
            r.estimate for r in op.report() if "grouped_rows" in r.estimate.name
        )
        seconds[chip] = told.seconds, told.flops, told.bound
    (v5p, flops, bound), (tpu7x, same, _) = seconds.values()
    assert bound == "products"
    assert flops == same
    # Six products of bfloat16 for one of float32.
    assert v5p == pytest.approx(6 * flops / 4.59e14)
    assert tpu7x == pytest.approx(6 * flops / (2.31e15 / 2))
