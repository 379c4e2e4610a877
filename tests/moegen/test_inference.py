"""Layers with weights of one byte: parameters in and out, refusals, the oracle."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import moegen
from ir import errors
from moegen.check import check
from moegen.layers import find_layer
from tests.moegen.layer_text import holds, refusal
from tests.moegen.small import TINY, small


def compiled(name, cache, weights="int8", target="cpu", **more):
    sizes = small(name, TINY, 4)
    layer = find_layer(name)
    return moegen.compile(layer, target, cache=cache, weights=weights, **more, **sizes)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def op(cache):
    return compiled("switch", cache)


@pytest.fixture(scope="module")
def floats(cache):
    """Parameters of the layer compiled without weights."""
    return compiled("switch", cache, None).init(jax.random.key(0))


X = jnp.ones((12, 8))


@pytest.mark.parametrize(
    ("name", "target", "dtype", "weights"),
    [
        ("glam", "cpu", "float32", "int8"),
        ("deepseek", "cpu", "bfloat16", "fp8"),
        ("glam_dense", "cpu", "bfloat16", "int8"),
        ("hash", "tpu-v4", "bfloat16", "int8"),
        ("expert_choice", "tpu-v6e", "float32", "fp8"),
        ("deepseek", "tpu-v5e", "bfloat16", "int8"),
    ],
)
def test_a_layer_agrees_with_the_oracle_on_what_its_weights_are_worth(
    name, target, dtype, weights, cache
):
    cases = check(
        find_layer(name),
        target=target,
        dtype=dtype,
        sizes=small(name),
        routings=["zipf", "NaN token"],
        reruns=1,
        cache=cache,
        interpret=target != "cpu",
        weights=weights,
    )
    found = [f for case in cases for f in case.findings]
    assert {"output", f"output, {weights} against float weights"} <= {
        f.name for f in found
    }
    assert [f for f in found if not f.ok] == []


def test_rounding_weights_costs_something_and_not_much(cache):
    (case,) = check(
        find_layer("switch"),
        sizes=small("switch"),
        routings=["zipf"],
        reruns=0,
        cache=cache,
        weights="int8",
    )
    errors_by_name = {f.name: f.error for f in case.findings}
    assert errors_by_name["output"] < 1e-5
    assert 1e-3 < errors_by_name["output, int8 against float weights"] < 2e-2


def test_initial_parameters_are_those_of_the_float_layer(op, floats):
    params = op.init(jax.random.key(0))
    assert {n: str(a.dtype) for n, a in params.items()} == {
        "router": "float32",
        "wi": "int8",
        "wi_scale": "float32",
        "wo": "int8",
        "wo_scale": "float32",
    }
    assert {n: k.dtype for n, k in op.parameters.items()} == {
        n: str(a.dtype) for n, a in params.items()
    }
    assert op.axes["wi_scale"] == ("experts", "hidden")
    assert op.axes["wo_scale"] == ("experts", "model")
    jax.tree.map(np.testing.assert_array_equal, params, op.quantise(floats))


def test_any_floats_and_a_jit_will_do(op, floats):
    bfloats = {n: floats[n].astype(jnp.bfloat16) for n in ("wi", "wo")}
    made = jax.jit(op.quantise)({**floats, **bfloats})
    exact = op.quantise(
        {**floats, **{n: a.astype(jnp.float32) for n, a in bfloats.items()}}
    )
    jax.tree.map(np.testing.assert_array_equal, made, exact)
    y, aux = jax.jit(op)(made, X)
    assert np.isfinite(y).all()
    assert int(aux["metrics"]["load"].sum() + aux["metrics"]["dropped"]) == 12


@pytest.mark.parametrize("moved", ["x", "router"])
def test_there_is_no_gradient_and_one_sentence_says_so(op, moved):
    params = op.init(jax.random.key(0))

    def total(value):
        given = {**params, "router": value} if moved == "router" else params
        return op(given, value if moved == "x" else X)[0].sum()

    value = X if moved == "x" else params["router"]
    with pytest.raises(TypeError) as caught:
        jax.jit(jax.grad(total))(value)
    assert str(caught.value) == str(
        errors.NoGradient(layer="switch_moe", weights="int8")
    )
    with pytest.raises(TypeError, match="compile it without weights"):
        jax.jvp(total, (value,), (value,))


def test_the_module_says_what_its_parameters_are(op):
    assert 'QUANTISED = {"wi": (2, "int8"), "wo": (2, "int8")}' in op.source.replace(
        "'", '"'
    )
    assert "quantise(init(key))" in op.source
    assert "backward" not in op.source
    assert "quantise" in op.stages
    assert "derive-backward" not in op.stages


def test_float_parameters_are_refused_with_the_way_to_convert_them(op, floats):
    text = refusal(errors.InputMismatch, op, op.quantise(floats) | floats, X)
    holds(text, ["'wi'", "must be i8[4,8,8], and is f32[4,8,8]", "op.quantise"])
    text = refusal(errors.MissingInput, op, {"router": floats["router"]}, X)
    holds(text, ["needs the parameter 'wi' (i8[4,8,8])", "op.quantise(params)"])


def test_quantise_checks_what_it_is_given(op, floats, cache):
    text = refusal(errors.InputMismatch, op.quantise, op.quantise(floats))
    holds(text, ["'wi'", "must be f32[4,8,8], and is i8[4,8,8]"])
    text = refusal(errors.InputMismatch, op.quantise, floats | {"wi": X})
    holds(text, ["'wi'", "f32[4,8,8]", "f32[12,8]"])
    text = refusal(errors.MissingInput, op.quantise, {"router": floats["router"]})
    holds(text, ["'wi'", "the layer compiled without weights"])
    plain = compiled("switch", cache, None)
    text = refusal(errors.BadArgument, plain.quantise, floats)
    holds(text, ["'switch_moe' takes its parameters as they are", "weights='int8'"])


def test_a_chip_that_has_no_such_weights_says_what_it_has(cache):
    text = refusal(
        errors.UnsupportedByTarget, compiled, "switch", cache, "fp8", "tpu-v4"
    )
    holds(
        text,
        [
            "the target 'tpu-v4' cannot run a layer with fp8 weights",
            "a TPU v4 multiplies by int8 and bfloat16 alone",
            "compile with weights='int8' or without weights",
        ],
    )


def test_weights_by_another_name(cache):
    text = refusal(errors.BadArgument, compiled, "switch", cache, "int9")
    holds(text, ["weights can be int8 or fp8", "'int9'", "did you mean 'int8'?"])


@pytest.mark.parametrize("weights", ["int8", "fp8"])
def test_the_report_counts_one_byte_an_element(weights, cache):
    (row,) = (
        r for r in compiled("switch", cache, weights).report() if r.flops and r.experts
    )
    (wide,) = (
        r
        for r in compiled("switch", cache, None).report()
        if r.flops and r.experts and r.function == "forward"
    )
    matrices, scales = 2 * 4 * 8 * 8, 2 * 4 * 8 * 4
    assert wide.bytes_read - row.bytes_read == 3 * matrices - scales
