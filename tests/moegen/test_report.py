import pytest

from moegen.compiler import compile
from moegen.layers import find_layer
from moegen.report import totals

TOKENS, MODEL, HIDDEN, EXPERTS, K = 16, 8, 16, 4, 2
ROWS = TOKENS * K


@pytest.fixture(scope="module")
def glam(tmp_path_factory):
    sizes = {"tokens": TOKENS, "model": MODEL, "hidden": HIDDEN, "experts": EXPERTS}
    return compile(find_layer("glam"), cache=tmp_path_factory.mktemp("cache"), **sizes)


def _kernels(op, function):
    return {row.op: row for row in op.report() if row.function == function}


def test_forward_counted_by_hand(glam):
    kernels = _kernels(glam, "forward")
    router, experts = kernels["stablehlo.dot_general"], kernels["kernel.grouped_matmul"]
    assert router.flops == 2 * TOKENS * MODEL * EXPERTS
    assert router.bytes_read == 4 * (TOKENS * MODEL + MODEL * EXPERTS)
    assert router.bytes_written == 4 * TOKENS * EXPERTS
    assert router.rows is None
    assert experts.flops == 2 * 2 * ROWS * MODEL * HIDDEN
    weights = 2 * EXPERTS * MODEL * HIDDEN
    assert experts.bytes_read == 4 * (ROWS + TOKENS * MODEL + weights)
    assert experts.bytes_written == 4 * ROWS * MODEL
    assert (experts.rows, experts.experts) == (ROWS, EXPERTS)
    assert experts.line.startswith("glam_moe.py:")
    assert experts.schedule["compute_dtype"] == "float32"
    combine = kernels["kernel.combine"]
    assert combine.flops == 2 * ROWS * MODEL
    assert combine.bytes_read == 4 * (ROWS + ROWS * MODEL + ROWS)


def test_backward_counted_by_hand(glam):
    experts = _kernels(glam, "backward")["kernel.grouped_matmul"]
    # Two products for the rows, two for the weights, and the gates' inner products.
    assert experts.flops == 4 * 2 * ROWS * MODEL * HIDDEN + 2 * ROWS * HIDDEN
    weights = 2 * EXPERTS * MODEL * HIDDEN
    tokens, gates, kept = 2 * TOKENS * MODEL, ROWS, ROWS * HIDDEN
    assert experts.bytes_read == 4 * (ROWS + tokens + gates + kept + weights)
    assert experts.bytes_written == 4 * (ROWS + ROWS * MODEL + weights)


def test_few_rows_read_the_weights_of_few_experts(tmp_path):
    sizes = {
        "tokens": 1,
        "model": 8,
        "hidden": 16,
        "experts": 4,
        "capacity_factor": 4.0,
    }
    op = compile(find_layer("glam"), cache=tmp_path, **sizes)
    experts = _kernels(op, "forward")["kernel.grouped_matmul"]
    assert experts.rows == 2
    weights = 2 * experts.rows * MODEL * HIDDEN
    assert experts.bytes_read == 4 * (2 + MODEL + weights)


def test_everything_is_an_estimate(glam):
    rows = glam.report()
    assert {row.how for row in rows} == {"estimated"}
    assert {total.how for total in totals(rows)} == {"estimated"}


def test_totals(glam):
    rows = glam.report()
    first, *_ = totals(rows)
    own = [row for row in rows if row.function == "forward"]
    assert first.function == "forward"
    assert first.flops == sum(row.flops for row in own)
    assert first.bytes_read == sum(row.bytes_read for row in own)
    assert first.bytes_written == sum(row.bytes_written for row in own)


def test_a_router_that_is_one_kernel_is_counted_by_its_products(tmp_path):
    sizes = {"tokens": TOKENS, "model": MODEL, "hidden": HIDDEN, "experts": EXPERTS}
    op = compile(find_layer("glam"), "tpu-v5e", cache=tmp_path, **sizes)
    forward, backward = (
        _kernels(op, name)["kernel.router"] for name in ("forward", "backward")
    )
    assert forward.flops == 2 * TOKENS * MODEL * EXPERTS
    assert backward.flops == 2 * forward.flops
    assert forward.line.startswith("glam_moe.py:")
    assert forward.schedule["tile_tokens"] == TOKENS
