"""Fuse the router: which ops one pass over the tokens holds, and the same values."""

from collections import Counter

import jax
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

BEFORE = "canonicalize,derive-backward,canonicalize,fuse,canonicalize"
ROUTERS = ["glam", "switch", "gshard", "mixtral", "deepseek", "expert_choice"]
CHOOSING = {"moe.softmax", "moe.softmax_grad", "moe.top_k", "moe.take", "moe.put"}


def run(module, passes):
    return run_passes(module, parse_passes(passes), lambda *_: None)


def lowered(layer, dtype="float32", **sizes):
    return run(trace(layer, dtype, **sizes), BEFORE)


def shipped(name):
    return lowered(find_layer(name), **small(name))


def fused(module, option=""):
    return run(module, f"fuse-router{option},canonicalize")


def routers(module, function):
    block = mlir.entry(mlir.functions(module)[function])
    return [op for op in block.operations if op.operation.name == "kernel.router"]


def names(block):
    return Counter(op.operation.name for op in block.operations)


def program(op):
    return names(op.operation.regions[0].blocks[0])


def given(block, seed=0):
    """Arguments for a function: of choices, most are dropped."""
    random = np.random.default_rng(seed)
    arrays = []
    for argument in block.arguments:
        kind = from_mlir(argument.type)
        if kind.dtype == "int32":
            few = random.integers(-12, 3, kind.shape)
            arrays.append(np.maximum(few, -1))
        elif kind.dtype == "bool":
            arrays.append(random.random(kind.shape) < 0.7)
        else:
            arrays.append(random.random(kind.shape))
    return arrays


def assert_same_values(before, after):
    for name, function in mlir.functions(before).items():
        arguments = given(mlir.entry(function))
        pairs = zip(
            interpret(before, name, arguments).results,
            interpret(after, name, arguments).results,
            strict=True,
        )
        for a, b in pairs:
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ROUTERS)
def test_every_function_of_a_layer_has_one_router_and_the_same_values(name):
    before = shipped(name)
    after = fused(before)
    for function in mlir.functions(after):
        (op,) = routers(after, function)
        assert program(op)["kernel.dot"] == 1
        left = names(mlir.entry(mlir.functions(after)[function]))
        outside = CHOOSING & set(left)
        assert outside <= ({"moe.take"} if name == "expert_choice" else set())
        assert "stablehlo.dot_general" not in left or name == "deepseek"
    assert_same_values(before, after)


def test_groups_of_tokens_stay_apart():
    sizes = small("gshard") | {"groups": 4, "tokens": 24}
    before = lowered(find_layer("gshard"), **sizes)
    after = fused(before)
    (forward,), (backward,) = (routers(after, n) for n in ("forward", "backward"))
    assert attributes_of(forward)["groups"] == 4
    assert attributes_of(forward)["results"].count("group") == 2
    assert attributes_of(backward)["operands"].count("group") == 1
    assert_same_values(before, after)


@pytest.mark.parametrize("name", ["hash", "glam_dense"])
def test_a_layer_without_a_router_stays_as_it_is(name):
    before = shipped(name)
    assert mlir.print_module(fused(before)) == mlir.print_module(before)


def test_the_passes_carry_on_from_the_printed_module():
    module = shipped("deepseek")
    once = fused(module)
    again = mlir.parse(mlir.print_module(once))
    assert mlir.print_module(fused(again)) == mlir.print_module(once)
    rest = run(again, "cut,canonicalize")
    assert "kernel.router" in mlir.print_module(rest)


def test_the_forward_reads_rows_once_and_keeps_only_what_is_read():
    module = fused(shipped("glam"))
    (op,) = routers(module, "forward")
    told = attributes_of(op)
    assert told["operands"] == ["token", "token", "whole"]
    assert told["results"] == ["token", "token", "group", "group"]
    shapes = [from_mlir(v.type).shape for v in op.operation.results]
    assert shapes == [(48, 2), (48, 2), (1, 8), (1, 8)]


def test_the_backward_makes_both_gradients_and_adds_what_came_from_experts():
    module = fused(lowered(find_layer("glam"), "bfloat16", **small("glam")))
    (op,) = routers(module, "backward")
    made = {str(from_mlir(v.type)) for v in op.operation.results}
    assert made == {"bf16[48,16]", "f32[16,8]"}
    assert program(op)["kernel.outer"] == 1
    read = [str(from_mlir(v.type)) for v in op.operation.operands]
    assert "bf16[48,16]" in read  # the tokens, not widened
    last = list(mlir.entry(mlir.functions(module)["backward"]).operations)[-1]
    assert op.operation.results[0] in last.operation.operands


def test_a_dense_branch_is_none_of_its_business():
    """Also where it happens to be as wide as there are experts."""
    for shared in (8, 12):
        sizes = small("deepseek") | {"shared": shared}
        module = fused(lowered(find_layer("deepseek"), **sizes))
        (op,) = routers(module, "forward")
        assert program(op)["kernel.dot"] == 1
        left = names(mlir.entry(mlir.functions(module)["forward"]))
        assert left["stablehlo.dot_general"] == 3


def test_a_router_that_does_not_fit_stays_as_it_is():
    before = shipped("switch")
    after = fused(before, "{memory=1000}")
    assert not any(routers(after, name) for name in mlir.functions(after))
    assert_same_values(before, after)
    after = fused(before, "{memory=1000000}")
    assert len(routers(after, "forward")) == 1


def of_two_layers(
    x=moe.tensor("tokens model"), *, tokens: int, model: int, experts: int
):
    """A router of a user's own: two products, temperature, noise-free dropping."""
    first = moe.param("first", "model experts")
    second = moe.param("second", "experts experts")
    heat = moe.param("heat", "experts")
    w = moe.param("w", "experts model model")
    logits = moe.matmul(jnp.tanh(moe.matmul(x, first)), second) * jax.nn.softplus(heat)
    scores = moe.softmax(logits)
    choice = moe.top_k(scores, 2)
    gates = moe.take(scores, choice)
    best = jnp.max(scores, axis=1, keepdims=True)
    kept = moe.drop(choice, gates > 0.3 * best)
    entropy = -jnp.sum(scores * jnp.log(scores), axis=1)
    moe.loss("entropy", jnp.mean(entropy))
    return moe.combine(moe.expert_matmul(moe.dispatch(x, kept), w), gates)


def test_a_router_of_a_users_own():
    before = lowered(of_two_layers, tokens=6, model=5, experts=3)
    after = fused(before)
    (forward,), (backward,) = (routers(after, n) for n in ("forward", "backward"))
    assert program(forward)["kernel.dot"] == 2
    assert program(backward)["kernel.dot"] == 2
    assert program(backward)["kernel.outer"] == 2
    assert_same_values(before, after)


def twice(x=moe.tensor("tokens model"), *, tokens: int, model: int, experts: int):
    """The second router reads what the first one's experts made."""
    router = moe.param("router", "model experts")
    w = moe.param("w", "experts model model")
    for _ in range(2):
        scores = moe.softmax(moe.matmul(x, router))
        choice = moe.top_k(scores, 1)
        rows = moe.expert_matmul(moe.dispatch(x, choice), w)
        x = moe.combine(rows, moe.take(scores, choice))
    return x


def test_routers_one_after_the_other_are_two():
    before = lowered(twice, tokens=6, model=4, experts=3)
    after = fused(before)
    assert len(routers(after, "forward")) == 2
    assert len(routers(after, "backward")) == 2
    assert_same_values(before, after)


def many(x=moe.tensor("tokens model"), *, tokens: int, model: int, experts: int):
    """More choices than a block program takes one after the other."""
    router = moe.param("router", "model experts")
    w = moe.param("w", "experts model model")
    scores = moe.softmax(moe.matmul(x, router))
    choice = moe.top_k(scores, 17)
    rows = moe.expert_matmul(moe.dispatch(x, choice), w)
    return moe.combine(rows, moe.take(scores, choice))


def test_many_choices_are_left_outside():
    before = lowered(many, tokens=4, model=2, experts=18)
    after = fused(before)
    (op,) = routers(after, "forward")
    assert set(program(op)) == {"kernel.dot", "moe.softmax", "kernel.yield"}
    assert names(mlir.entry(mlir.functions(after)["forward"]))["moe.top_k"] == 1
    assert_same_values(before, after)
