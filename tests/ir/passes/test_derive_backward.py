"""Derive the backward: every gradient against differences of the oracle's forward."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ir import mlir
from ir.errors import IllegalIR
from ir.interpret import interpret
from ir.interpret.gradients import directional_check
from ir.pipeline import make_pass, run_passes
from ir.types import from_attribute, from_mlir
from moegen import lang as moe
from moegen.trace import trace

SIZES = {"tokens": 6, "model": 3, "experts": 4}


def derived(layer, keep="true", **sizes):
    steps = [
        make_pass("canonicalize", {}),
        make_pass("derive-backward", {"keep": keep}),
    ]
    return run_passes(trace(layer, **sizes), steps, lambda *_: None)


def drawn(module):
    random = np.random.default_rng(3)
    block = mlir.entry(mlir.functions(module)["forward"])
    kinds = [from_mlir(a.type) for a in block.arguments]
    return [random.standard_normal(kind.shape) for kind in kinds]


def facts(module, function, results=False):
    read = mlir.result_facts if results else mlir.argument_facts
    return [from_attribute(f) for f in read(mlir.functions(module)[function])]


def gradients(module, given):
    """Gradients by name, and the cotangents that they are of."""
    results = interpret(module, "forward_residuals", given).results
    told = facts(module, "forward_residuals", results=True)
    named = {str(t): r for t, r in zip(told, results, strict=True)}
    random = np.random.default_rng(4)
    cotangents, rest = {}, []
    for fact in facts(module, "backward")[len(given) :]:
        if "moe.residual" in fact:
            rest.append(named[str({"moe.residual": fact["moe.residual"]})])
            continue
        name = fact["moe.cotangent"]
        shape = named[str({"moe.result": name})].shape
        cotangents[name] = random.standard_normal(shape)
        rest.append(cotangents[name])
    found = interpret(module, "backward", [*given, *rest]).results
    names = [t["moe.result"] for t in facts(module, "backward", results=True)]
    return dict(zip(names, found, strict=True)), cotangents


def errors(module):
    given = drawn(module)
    found, cotangents = gradients(module, given)
    outer = [cotangents.get("output")]
    outer += [cotangents.get("loss")]
    return found, directional_check(
        module, given, outer, list(found.values()), list(range(len(given))), seed=5
    )


def shared(x=moe.tensor("tokens model"), *, tokens: int, model: int, experts: int):
    """x is used four times, rows twice, and the weight by two products."""
    router = moe.param("router", "model experts")
    w = moe.param("w", "experts model model")
    scores = moe.softmax(moe.matmul(x, router))
    choice = moe.top_k(scores, 2)
    rows = moe.dispatch(x, choice)
    once = moe.expert_matmul(rows, w)
    twice = moe.expert_matmul(jnp.tanh(once) * rows, w)
    return moe.combine(once * twice, moe.take(scores, choice)) + x * jnp.sin(x)


@pytest.mark.parametrize("keep", ["true", "false"])
def test_uses_of_one_value_sum_their_gradients(keep):
    found, worst = errors(derived(shared, keep, **SIZES))
    assert set(found) == {"d_x", "d_router", "d_w"}
    assert max(worst) < 1e-6
    assert all(value.any() for value in found.values())


def test_kept_products_are_residuals_and_others_are_computed_again():
    kept = derived(shared, "true", **SIZES)
    again = derived(shared, "false", **SIZES)

    def ops(module, name):
        block = mlir.entry(mlir.functions(module)["backward"])
        return sum(op.operation.name == name for op in mlir.walk(block))

    assert ops(kept, "moe.top_k") == ops(again, "moe.top_k") == 0
    # Two of the backward itself, and the two of the forward where nothing is kept.
    assert ops(kept, "moe.expert_matmul") == 2
    assert ops(again, "moe.expert_matmul") == 4


def test_a_gradient_that_nothing_reaches_is_zero():
    def layer(x=moe.tensor("tokens model"), *, tokens: int, model: int, experts: int):
        router = moe.param("router", "model experts")
        choice = moe.top_k(moe.matmul(x, router), 1)
        return moe.combine(moe.dispatch(x, choice))

    module = derived(layer, **SIZES)
    found, _ = gradients(module, drawn(module))
    assert found["d_router"].shape == (3, 4)
    assert not found["d_router"].any()
    assert found["d_x"].any()


def test_losses_have_cotangents_and_metrics_have_none():
    def layer(x=moe.tensor("tokens model"), *, tokens: int, model: int):
        moe.loss("size", jnp.sum(x * x), 0.5)
        moe.metric("largest", jnp.max(x))
        return jnp.exp(x)

    module = derived(layer, tokens=4, model=3)
    found, cotangents = gradients(module, given := drawn(module))
    assert set(cotangents) == {"output", "loss", "losses.size"}
    x = given[0]
    expected = np.exp(x) * cotangents["output"]
    # The loss holds 0.5 of the named loss, which has a cotangent of its own too.
    expected += (0.5 * cotangents["loss"] + cotangents["losses.size"]) * 2 * x
    np.testing.assert_allclose(found["d_x"], expected, rtol=1e-12)


def test_a_maximum_shares_its_gradient_among_ties():
    def layer(x=moe.tensor("tokens model"), *, tokens: int, model: int):
        return x + jnp.max(x, axis=1, keepdims=True)

    module = derived(layer, tokens=1, model=3)
    given = [np.array([[2.0, 1.0, 2.0]])]
    found, cotangents = gradients(module, given)
    d = cotangents["output"]
    shared_by_two = d + d.sum() * np.array([[0.5, 0.0, 0.5]])
    np.testing.assert_allclose(found["d_x"], shared_by_two, rtol=1e-12)


def test_a_map_without_a_vjp_is_refused_and_never_a_silent_zero():
    def layer(x: jax.Array = moe.tensor("tokens model"), *, tokens: int, model: int):
        return jnp.exp(x)

    text = mlir.print_module(trace(layer, tokens=4, model=3), locations=False)
    start, end = text.index("}, {"), text.index('}) {name = "exp"')
    without = mlir.parse(text[:start] + "}, {\n    " + text[end:])
    with pytest.raises(IllegalIR, match="map 'exp' has a cotangent and no vjp"):
        run_passes(without, [make_pass("derive-backward", {})], lambda *_: None)
