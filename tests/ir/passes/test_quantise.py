"""Quantise: which matrices it stores in one byte, and that their worth is kept."""

import jax
import numpy as np
import pytest

from ir import mlir
from ir.errors import BadPassOption, CannotQuantise
from ir.interpret import interpret
from ir.passes.quantise import Quantise
from ir.pipeline import parse_passes, run_passes
from ir.types import from_attribute, from_mlir
from moegen import lang as moe
from moegen.layers import SHIPPED, find_layer
from moegen.trace import trace
from tests.moegen.layer_text import holds, refusal
from tests.moegen.small import TINY, small

ROUTERS = {"router", "bias"}


def quantised(module, dtype="int8"):
    passes = parse_passes(f"canonicalize,quantise{{dtype={dtype}}},canonicalize")
    return run_passes(module, passes, lambda *_: None)


def parameters(module, function="forward"):
    block = mlir.entry(mlir.functions(module)[function])
    facts = map(from_attribute, mlir.argument_facts(block.owner))
    pairs = zip(facts, block.arguments, strict=True)
    return {f["moe.param"]: from_mlir(a.type) for f, a in pairs if "moe.param" in f}


def arguments(module, random):
    """Of the function `forward`: inputs, and parameters by name."""
    block = mlir.entry(mlir.functions(module)["forward"])
    inputs, params = [], {}
    facts = map(from_attribute, mlir.argument_facts(block.owner))
    for fact, value in zip(facts, block.arguments, strict=True):
        kind = from_mlir(value.type)
        drawn = random.standard_normal(kind.shape)
        if not kind.is_float:
            drawn = random.integers(0, 2, kind.shape)
        if "moe.param" in fact:
            params[fact["moe.param"]] = drawn
        else:
            inputs.append(drawn)
    return inputs, params


@pytest.mark.parametrize("name", SHIPPED)
def test_every_matrix_but_the_routers_has_one_byte_and_scales_behind_it(name):
    module = trace(find_layer(name), **small(name))
    before, after = parameters(module), parameters(quantised(module))
    expected = [
        item
        for matrix in before
        for item in ([matrix] if matrix in ROUTERS else [matrix, f"{matrix}_scale"])
    ]
    assert list(after) == expected
    assert {kind.dtype for n, kind in after.items() if n in before} <= {
        "int8",
        "float32",
    }
    assert all((after[n].dtype == "int8") != (n in ROUTERS) for n in before)
    assert all(after[n].shape == kind.shape for n, kind in before.items())


@pytest.mark.parametrize("dtype", ["int8", "fp8"])
@pytest.mark.parametrize(
    ("name", "options"),
    [("mixtral", {}), ("mixtral", {"out_first": False}), ("deepseek", {})],
)
def test_the_layer_is_that_of_the_stored_weights_times_their_scales(
    name, options, dtype
):
    module = trace(find_layer(name), **small(name, TINY, 4), **options)
    inputs, params = arguments(module, np.random.default_rng(0))
    narrow = quantised(module, dtype)
    stored = interpret(narrow, "quantise", list(params.values())).results
    by_name = dict(zip(parameters(narrow), stored, strict=True))
    axes = {"w_down": 1, "w_gate": 1, "w_up": 1} if options else {}
    worth = []
    for matrix in params:
        value, scale = by_name[matrix], by_name.get(f"{matrix}_scale")
        if scale is not None:
            dense = value.ndim == 2
            scale = np.expand_dims(scale, 0 if dense else axes.get(matrix, 2))
            value = value * scale
        worth.append(value)
    expected = interpret(module, "forward", [*inputs, *worth]).results
    found = interpret(narrow, "forward", [*inputs, *stored]).results
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def stored(values, dtype):
    """What `kernel.quantise` makes of one channel, and its scale."""

    def layer(x=moe.tensor("tokens model"), *, model, tokens=1, one=1):
        return moe.matmul(x, moe.param("w", "model one"))

    module = quantised(trace(layer, model=len(values)), dtype)
    (w, scale) = interpret(module, "quantise", [np.array(values)[:, None]]).results
    return w[:, 0].tolist(), scale[0]


def test_int8_is_symmetric_and_rounds_ties_to_even():
    values, scale = stored([-254.0, 1.0, 3.0, 5.0, -1.0, 2.0, 253.1], "int8")
    assert scale == 2.0
    assert values == [-127, 0, 2, 2, 0, 1, 127]


def test_fp8_fills_the_range_of_its_dtype():
    values, scale = stored([896.0, 2.0, 34.0, 38.0, -(2.0**-9)], "fp8")
    assert scale == 2.0
    assert values == [448.0, 1.0, 16.0, 20.0, 0.0]


def test_a_channel_without_a_scale_is_stored_as_zeros():
    assert stored([0.0, 0.0], "int8") == ([0, 0], 0.0)
    values, scale = stored([1.0, np.nan], "int8")
    assert values == [0, 0]
    assert np.isnan(scale)
    assert stored([1.0, np.inf], "fp8") == ([0.0, 0.0], np.inf)


def test_there_is_no_backward():
    module = trace(find_layer("switch"), **small("switch"))
    passes = parse_passes("canonicalize,derive-backward,quantise,canonicalize")
    module = run_passes(module, passes, lambda *_: None)
    assert list(mlir.functions(module)) == ["forward", "quantise"]


def layer_of(body):
    """A layer whose experts are multiplied as `body(rows, w)` says."""

    def layer(x=moe.tensor("tokens model"), *, tokens=6, model=4, experts=3, width=4):
        scores = moe.softmax(moe.matmul(x, moe.param("router", "model experts")))
        choice = moe.top_k(scores, 1)
        rows = moe.dispatch(x, choice)
        w = moe.param("w", "experts model width")
        return moe.combine(body(rows, w), moe.take(scores, choice))

    return layer


REFUSED = {
    "computed": (
        lambda rows, w: moe.expert_matmul(rows, 2.0 * w),
        ["expert_matmul's matrix cannot be", "computed in the layer", "pass the param"],
    ),
    "read otherwise": (
        lambda rows, w: (
            moe.expert_matmul(rows, w) + moe.expert_matmul(rows, jax.numpy.tanh(w))
        ),
        ["the matrix 'w' cannot be stored as int8", "something else than products"],
    ),
    "turned": (
        lambda rows, w: moe.expert_matmul(
            moe.expert_matmul(rows, w), w, transposed=True
        ),
        ["'w' cannot be", "as [in, out] and as [out, in]", "declare two"],
    ),
    "named as scales": (
        lambda rows, w: moe.expert_bias(
            moe.expert_matmul(rows, w), moe.param("w_scale", "experts width")
        ),
        [
            "'w' cannot be stored as int8",
            "its scales are called 'w_scale'",
            "rename one",
        ],
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_stored_in_one_byte(case):
    body, parts = REFUSED[case]
    text = refusal(CannotQuantise, quantised, trace(layer_of(body)))
    assert text.startswith("test_quantise.py:")
    holds(text, parts)


def test_a_layer_without_matrices():
    def layer(x=moe.tensor("tokens model"), *, tokens=2, model=4):
        return x + 1.0

    text = refusal(CannotQuantise, quantised, trace(layer))
    holds(text, ["the layer 'layer' cannot be stored as int8", "no matrix"])


def test_a_dense_matrix_that_leads_to_a_choice_stays_as_it_is():
    def layer(x=moe.tensor("tokens model"), *, tokens=6, model=4, experts=3):
        mixed = moe.matmul(x, moe.param("before", "model model"))
        scores = moe.softmax(moe.matmul(mixed, moe.param("router", "model experts")))
        choice = moe.top_k(scores, 1)
        w = moe.param("w", "experts model model")
        rows = moe.expert_matmul(moe.dispatch(x, choice), w)
        y = moe.combine(rows, moe.take(scores, choice))
        return moe.matmul(y, moe.param("after", "model model"))

    found = parameters(quantised(trace(layer)))
    narrow = {name for name, kind in found.items() if kind.dtype == "int8"}
    assert narrow == {"w", "after"}


def test_other_dtypes_are_refused():
    text = refusal(BadPassOption, Quantise("int4").apply, trace(find_layer("switch")))
    holds(text, ["dtype=int4", "'quantise'", "int8 or fp8"])
