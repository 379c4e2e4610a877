"""Fuse: which ops become which kernel ops, and what their block programs hold."""

from collections import Counter

import jax.numpy as jnp
import numpy as np
import pytest

from ir import mlir
from ir.interpret import interpret
from ir.op import attributes_of
from ir.pipeline import parse_passes, run_passes
from ir.types import from_mlir
from moegen import lang as moe
from moegen.layers import find_layer
from moegen.trace import trace
from tests.moegen.small import small

BEFORE = "canonicalize,derive-backward,canonicalize"


def fused(layer, **sizes):
    passes = parse_passes(f"{BEFORE},fuse,canonicalize")
    return run_passes(trace(layer, **sizes), passes, lambda *_: None)


def shipped(name):
    return fused(find_layer(name), **small(name))


def kernels(module, function="forward"):
    block = mlir.entry(mlir.functions(module)[function])
    names = (op.operation.name for op in block.operations)
    return Counter(name.removeprefix("kernel.") for name in names if "kernel" in name)


def groups(module, function="forward"):
    block = mlir.entry(mlir.functions(module)[function])
    return [
        op for op in block.operations if op.operation.name == "kernel.grouped_matmul"
    ]


def program(group):
    block = group.operation.regions[0].blocks[0]
    names = [op.operation.name.split(".")[1] for op in block.operations]
    return names


def test_a_plain_expert_is_one_plan_one_group_and_one_combine():
    module = shipped("switch")
    assert kernels(module) == {"row_plan": 1, "grouped_matmul": 1, "combine": 1}
    (group,) = groups(module)
    assert program(group) == ["dot", "map", "dot", "yield"]
    told = attributes_of(group)
    assert told["operands"] == ["token", "weight", "weight"]
    assert told["results"] == ["row"]
    # A block has as many rows as it likes; a weight is one expert's own.
    kinds = [str(a.type) for a in group.operation.regions[0].blocks[0].arguments]
    assert kinds == ["tensor<?x16xf32>", "tensor<24x16xf32>", "tensor<16x24xf32>"]


def test_a_gated_backward_is_one_group_that_sums_each_weight():
    module = shipped("mixtral")
    (group,) = groups(module, "backward")
    told, made = attributes_of(group), Counter(program(group))
    assert told["results"].count("weight") == 3
    assert made["outer"] == 3
    assert made["dot"] == 3
    results = [from_mlir(v.type).shape for v in group.operation.results]
    assert results.count((8, 24, 16)) == 2
    assert results.count((8, 16, 24)) == 1


def test_a_backward_plans_once_and_collects_the_gates():
    made = kernels(shipped("glam"), "backward")
    assert made == {"row_plan": 1, "grouped_matmul": 1, "combine": 1, "collect": 1}


def test_a_dense_layer_has_no_kernel():
    module = shipped("glam_dense")
    assert not any(kernels(module, name) for name in mlir.functions(module))


@pytest.mark.parametrize("name", ["glam", "deepseek", "expert_choice", "hash"])
def test_no_op_on_rows_is_left_outside(name):
    module = shipped(name)
    left = {op.operation.name for op in mlir.walk(module.body)}
    assert not {n for n in left if n.startswith(("moe.expert_", "moe.dispatch"))} - {
        "moe.expert_choice"
    }
    assert not left & {"moe.combine", "moe.collect", "moe.row_dot"}
    for function in mlir.functions(module):
        plain = [
            op
            for op in mlir.entry(mlir.functions(module)[function]).operations
            if op.operation.name == "moe.map"
        ]
        assert all(not op.operation.regions[1].blocks for op in plain)


def two_of(x=moe.tensor("tokens model"), *, tokens: int, model: int, experts: int):
    """Two choices, and a chain that dispatches what it combined."""
    first = moe.param("first", "model experts")
    second = moe.param("second", "model experts")
    w = moe.param("w", "experts model model")
    one = moe.top_k(moe.matmul(x, first), 1)
    two = moe.top_k(moe.matmul(x, second), 1)
    y = moe.combine(moe.expert_matmul(moe.dispatch(x, one), w))
    z = moe.combine(moe.expert_matmul(moe.dispatch(x, two), w))
    again = moe.combine(jnp.tanh(moe.expert_matmul(moe.dispatch(y, one), w)))
    return y + z + again


def test_each_choice_has_its_plan_and_each_stage_its_group():
    module = fused(two_of, tokens=6, model=4, experts=3)
    assert kernels(module) == {"row_plan": 2, "grouped_matmul": 3, "combine": 3}
    plans = [group.operation.operands[0] for group in groups(module)]
    assert len(set(plans)) == 2
    assert max(plans.count(plan) for plan in plans) == 2


def test_fusing_changes_no_value():
    traced = trace(two_of, tokens=6, model=4, experts=3)
    module = fused(two_of, tokens=6, model=4, experts=3)
    block = mlir.entry(mlir.functions(traced)["forward"])
    random = np.random.default_rng(0)
    given = [random.standard_normal(from_mlir(a.type).shape) for a in block.arguments]
    before = interpret(traced, "forward", given).results
    after = interpret(module, "forward", given).results
    for a, b in zip(before, after, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
