"""The byte counts of the traffic suite, on a layer whose sums are done by hand."""

from backends.chips import CHIPS
from backends.tpu.schedule import Blocks, Work
from bench.ahead import Shape
from bench.traffic import Layer, ours, padding, peer_bytes

LAYER = Layer(tokens=1024, model=256, hidden=512, experts=4, k=2, gates=2)


def test_the_bound_is_the_sum_of_what_fused_kernels_must_move():
    x, rows = 1024 * 256 * 2, 2048
    y, a, w = rows * 256 * 2, rows * 512 * 2, 3 * 4 * 256 * 512 * 2
    forward = 2 * x + w + 2 * a + 2 * y
    assert LAYER.bound(training=False) == forward
    backward = 3 * x + 2 * w + 2 * a + 2 * y + 8 * a + x
    assert LAYER.bound(training=True) == forward + 2 * a + backward


def test_the_pipeline_moves_more_than_the_bound_and_ours_lies_between():
    sizes = {"tokens": 1024, "model": 256, "hidden": 512, "experts": 4, "k": 2}
    bytes_moved, done = ours(Shape("hand", "mixtral", sizes), "tpu-v5e", False)
    assert LAYER.bound(training=False) < bytes_moved
    assert bytes_moved < LAYER.peer(False, CHIPS["tpu-v5e"])
    assert 1 <= done < 1.1


def test_padding_is_what_the_last_chunks_hold_beyond_their_rows():
    one = Layer(tokens=130, model=256, hidden=256, experts=1, k=1, gates=1)
    assert padding(one, 128) == (128 + 16) / 130
    assert padding(one, 64) == (128 + 16) / 130


def test_the_pipeline_visits_a_tile_once_for_every_expert_with_rows_in_it():
    """Where the inner width is cut, each visit reads its rows and weights anew."""
    work = Work("rows", 1024, 4, 512, 256, 1, 2, inner=2, results=2)
    whole, weights, out = 1024 * 512 * 2, 512 * 256 * 2, 1024 * 256 * 2
    assert peer_bytes(work, 256, Blocks(512, 256)) == whole + 4 * weights + out
    visits = 4 + 3
    moved = visits * 256 * 512 * 2 + visits * weights + out
    assert peer_bytes(work, 256, Blocks(256, 256)) == moved
