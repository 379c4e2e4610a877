"""Metrics that each dispatch records itself."""

from ir import mlir
from ir.types import from_attribute
from moegen.layers import find_layer
from moegen.trace import trace
from tests.moegen.layer_text import written


def test_a_second_dispatch_is_the_second_whatever_metrics_are_called(tmp_path):
    name, _ = written(
        tmp_path,
        {
            "    inner =": '    metric("load_share", scores[0])\n'
            '    metric("loads", scores[0])\n'
            "    again = jax.nn.relu(expert_matmul(dispatch(x, kept), wi))\n"
            "    inner =",
            "return combine(": "return combine(expert_matmul(again, wo)) + combine(",
        },
    )
    function = mlir.functions(trace(find_layer(name)))["forward"]
    told = [from_attribute(f)["moe.result"] for f in mlir.result_facts(function)]
    assert [name for name in told if name.startswith("metrics.")] == [
        "metrics.load",
        "metrics.dropped",
        "metrics.dead",
        "metrics.load_share",
        "metrics.loads",
        "metrics.load_2",
        "metrics.dropped_2",
        "metrics.dead_2",
    ]
