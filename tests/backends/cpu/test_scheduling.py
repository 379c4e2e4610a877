"""One tile for all rows: chosen, checked, and bit-equal whatever other rows hold."""

import jax
import numpy as np
import pytest

import moegen
from ir.errors import IllegalSchedule, UnknownScheduleField
from moegen.layers import find_layer

SIZES = {"tokens": 64, "model": 64, "hidden": 128, "experts": 4}


def compiled(cache, choices, **more):
    sizes, layer = SIZES | more, find_layer("glam")
    return moegen.compile(layer, "cpu", cache=cache, schedule=choices, **sizes)


def schedules(op):
    """The tiles of each kernel, in order."""
    return [row.schedule["tiles"] for row in op.report() if row.schedule]


def test_a_row_has_the_same_bits_whatever_other_rows_hold(tmp_path):
    op = compiled(tmp_path, {"tile_rows": 16}, dropless=True)
    assert set(map(tuple, schedules(op))) == {(16,)}
    params = op.init(jax.random.key(0))
    x = np.random.default_rng(0).standard_normal((2, 64, 64)).astype(np.float32)
    x[1, :32] = x[0, :32]
    run = jax.jit(lambda x: op(params, x)[0])
    first, second = run(x[0]), run(x[1])
    assert np.array_equal(first[:32], second[:32])
    assert not np.array_equal(first[32:], second[32:])


def test_one_kernel_alone(tmp_path):
    op = compiled(tmp_path, {"backward.grouped_matmul.tile_rows": 24})
    tiles = schedules(op)
    assert [24] in tiles
    assert [8, 16, 32, 48, 64] in tiles


@pytest.mark.parametrize("rows", [0, 257, True])
def test_tiles_that_do_not_run(tmp_path, rows):
    sentence = r"forward\.grouped_matmul\.0 cannot run on cpu with tile_rows=.*1 to 256"
    with pytest.raises(IllegalSchedule, match=sentence):
        compiled(tmp_path, {"tile_rows": rows})


def test_no_kernel_has_that_field(tmp_path):
    with pytest.raises(UnknownScheduleField, match=r"sets 'rows\.tile', and no kernel"):
        compiled(tmp_path, {"rows.tile": 16})
    sizes = {"tokens": 8, "model": 8, "hidden": 8}
    dense, choices = find_layer("glam_dense"), {"tile_rows": 16}
    with pytest.raises(UnknownScheduleField, match="its kernels are none"):
        moegen.compile(dense, "cpu", cache=tmp_path, schedule=choices, **sizes)
