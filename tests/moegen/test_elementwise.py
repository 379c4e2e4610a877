"""Every elementwise op: traced, interpreted, emitted and run, against plain math."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import moegen
from ir import mlir
from ir.errors import UnsupportedFunction
from ir.interpret import interpret
from ir.pipeline import make_pass, run_passes
from ir.scalar_ops import BY_PRIMITIVE, COMPARISONS, SCALAR_OPS
from moegen import lang as moe
from moegen.derivatives import RULES
from moegen.trace import trace

OPEN, UNIT, POSITIVE, LARGE = (-3.0, 3.0), (-0.95, 0.95), (0.05, 4.0), (1.05, 5.0)

# Of each function of one operand: its domain, its meaning, and its derivative.
ONE = {
    "neg": (OPEN, lambda x: -x, lambda x: -1),
    "abs": (OPEN, abs, lambda x: math.copysign(1, x)),
    "sign": (OPEN, lambda x: math.copysign(1, x), lambda x: 0),
    "exp": (OPEN, math.exp, math.exp),
    "exp2": (OPEN, lambda x: 2**x, lambda x: 2**x * math.log(2)),
    "expm1": (OPEN, math.expm1, math.exp),
    "log": (POSITIVE, math.log, lambda x: 1 / x),
    "log1p": (POSITIVE, math.log1p, lambda x: 1 / (1 + x)),
    "logistic": (
        OPEN,
        lambda x: 1 / (1 + math.exp(-x)),
        lambda x: math.exp(-x) / (1 + math.exp(-x)) ** 2,
    ),
    "tanh": (OPEN, math.tanh, lambda x: 1 / math.cosh(x) ** 2),
    "sin": (OPEN, math.sin, math.cos),
    "cos": (OPEN, math.cos, lambda x: -math.sin(x)),
    "tan": (UNIT, math.tan, lambda x: 1 / math.cos(x) ** 2),
    "sinh": (OPEN, math.sinh, math.cosh),
    "cosh": (OPEN, math.cosh, math.sinh),
    "asin": (UNIT, math.asin, lambda x: 1 / math.sqrt(1 - x * x)),
    "acos": (UNIT, math.acos, lambda x: -1 / math.sqrt(1 - x * x)),
    "atan": (OPEN, math.atan, lambda x: 1 / (1 + x * x)),
    "asinh": (OPEN, math.asinh, lambda x: 1 / math.sqrt(1 + x * x)),
    "acosh": (LARGE, math.acosh, lambda x: 1 / math.sqrt(x * x - 1)),
    "atanh": (UNIT, math.atanh, lambda x: 1 / (1 - x * x)),
    "erf": (OPEN, math.erf, lambda x: 2 / math.sqrt(math.pi) * math.exp(-x * x)),
    "erfc": (OPEN, math.erfc, lambda x: -2 / math.sqrt(math.pi) * math.exp(-x * x)),
    "sqrt": (POSITIVE, math.sqrt, lambda x: 0.5 / math.sqrt(x)),
    "rsqrt": (POSITIVE, lambda x: x**-0.5, lambda x: -0.5 * x**-1.5),
    "cbrt": (POSITIVE, lambda x: x ** (1 / 3), lambda x: x ** (-2 / 3) / 3),
    "square": (OPEN, lambda x: x * x, lambda x: 2 * x),
    "floor": (OPEN, math.floor, lambda x: 0),
    "ceil": (OPEN, math.ceil, lambda x: 0),
    "round": (OPEN, lambda x: math.copysign(math.floor(abs(x) + 0.5), x), lambda x: 0),
}
# Of two operands a and b: the domain of both, the meaning, and both derivatives.
TWO = {
    "add": (OPEN, lambda a, b: a + b, lambda a, b: (1, 1)),
    "sub": (OPEN, lambda a, b: a - b, lambda a, b: (1, -1)),
    "mul": (OPEN, lambda a, b: a * b, lambda a, b: (b, a)),
    "div": (POSITIVE, lambda a, b: a / b, lambda a, b: (1 / b, -a / b**2)),
    "rem": (POSITIVE, math.fmod, lambda a, b: (1, -math.trunc(a / b))),
    "pow": (
        POSITIVE,
        math.pow,
        lambda a, b: (b * a ** (b - 1), a**b * math.log(a)),
    ),
    "max": (OPEN, max, lambda a, b: (float(a > b), float(b > a))),
    "min": (OPEN, min, lambda a, b: (float(a < b), float(b < a))),
    "atan2": (
        OPEN,
        math.atan2,
        lambda a, b: (b / (a * a + b * b), -a / (a * a + b * b)),
    ),
}
# Covered below, or no function that a user would write.
OTHERS = {"add_any", "is_finite", "and", "or", "xor", "not"}
COUNT = 64


def test_every_row_of_the_table_is_here():
    assert set(BY_PRIMITIVE) <= set(ONE) | set(TWO) | OTHERS
    assert len(SCALAR_OPS) == len(BY_PRIMITIVE)
    assert set(RULES) - {"log2"} <= set(ONE) | set(TWO)


def points(domain, seed):
    return np.random.default_rng(seed).uniform(*domain, COUNT).astype(np.float32)


def layer_of(name, function):
    def one(x=moe.tensor("tokens"), *, tokens: int):
        return function(x)

    def two(x=moe.tensor("tokens"), z=moe.tensor("tokens"), *, tokens: int):
        return function(x, z)

    return two if name in TWO else one


def given(name):
    domain = ONE[name][0] if name in ONE else TWO[name][0]
    return [points(domain, seed) for seed in range(2 if name in TWO else 1)]


def meant(name, arrays, which):
    function = (ONE[name] if name in ONE else TWO[name])[which]
    values = zip(*(map(float, array) for array in arrays), strict=True)
    return np.array([function(*row) for row in values], np.float64)


def derived(layer, **sizes):
    steps = [make_pass(n, {}) for n in ("canonicalize", "derive-backward")]
    return run_passes(trace(layer, **sizes), steps, lambda *_: None)


def gradients(module, arrays):
    """Of the sum of the output; the backward takes residuals in the order of facts."""
    functions = mlir.functions(module)
    results = interpret(module, "forward_residuals", arrays).results
    residuals = iter(results[len(mlir.result_facts(functions["forward"])) :])
    rest = []
    for fact in map(str, mlir.argument_facts(functions["backward"])[len(arrays) :]):
        if "moe.residual" in fact:
            rest.append(next(residuals))
        else:
            rest.append(
                np.ones_like(results[0]) if '"output"' in fact else np.zeros(())
            )
    return interpret(module, "backward", [*arrays, *rest]).results


@pytest.mark.parametrize("name", [*ONE, *TWO])
def test_interpreted_value_and_derivative(name):
    arrays = given(name)
    module = derived(layer_of(name, getattr(lax, name)), tokens=COUNT)
    value = interpret(module, "forward", arrays).results[0]
    np.testing.assert_allclose(value, meant(name, arrays, 1), rtol=1e-6, atol=1e-7)
    found = np.stack(gradients(module, arrays), axis=-1)
    expected = meant(name, arrays, 2).reshape(found.shape)
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-6)


def test_emitted_text_means_the_same(tmp_path):
    """All functions in one layer, so that XLA compiles once."""
    names = [*ONE, *TWO]

    def layer(x=moe.tensor("functions tokens"), *, functions: int, tokens: int):
        for i, name in enumerate(names):
            operands = [x[2 * i], x[2 * i + 1]] if name in TWO else [x[2 * i]]
            moe.metric(name, getattr(lax, name)(*operands))
        return x

    arrays = {name: given(name) for name in names}
    x = np.zeros((2 * len(names), COUNT), np.float32)
    for i, name in enumerate(names):
        x[2 * i : 2 * i + len(arrays[name])] = arrays[name]
    op = moegen.compile(layer, functions=2 * len(names), tokens=COUNT, cache=tmp_path)
    _, aux = jax.jit(lambda x: op({}, x))(x)
    for name in names:
        expected = meant(name, arrays[name], 1)
        got = aux["metrics"][name]
        np.testing.assert_allclose(got, expected, rtol=3e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("name", COMPARISONS)
def test_comparisons_and_selection(name):
    def layer(x=moe.tensor("tokens"), z=moe.tensor("tokens"), *, tokens: int):
        return lax.select(getattr(lax, name)(x, z), 2.0 * x, -z)

    a, b = np.array([[1.0, 2, 3, np.nan], [1.0, 3, 2, 1]])
    compare = {"eq": a == b, "ne": a != b, "lt": a < b, "le": a <= b}
    compare |= {"gt": a > b, "ge": a >= b}
    found = interpret(trace(layer, tokens=4), "forward", [a, b]).results[0]
    np.testing.assert_array_equal(found, np.where(compare[name], 2 * a, -b))


def test_bits_of_booleans_and_integers():
    def layer(x=moe.tensor("tokens"), *, tokens: int):
        bits = (x > 0) & ~(x > 2) | (x < -2) ^ jnp.isfinite(x)
        return jnp.where(bits, x.astype(jnp.int32) ^ 1, 7).astype(jnp.float32)

    x = np.array([-3.0, -1.0, 0.5, 2.5, 1.0])
    bits = (x > 0) & ~(x > 2) | (x < -2) ^ np.isfinite(x)
    found = interpret(trace(layer, tokens=5), "forward", [x]).results[0]
    np.testing.assert_array_equal(found, np.where(bits, x.astype(int) ^ 1, 7))


def gradient_at(function, values):
    def layer(x=moe.tensor("tokens"), *, tokens: int):
        return function(x)

    return gradients(derived(layer, tokens=len(values)), [np.array(values)])[0]


@pytest.mark.parametrize(
    ("function", "values", "expected"),
    [
        (lambda x: jnp.maximum(x, 0), [-1.0, 0.0, 2.0, np.nan], [0, 0.5, 1, 0]),
        (lambda x: jnp.minimum(1, x), [0.0, 1.0, 2.0], [1, 0.5, 0]),
        (lambda x: jnp.clip(x, 0, 6), [-1.0, 0.0, 3.0, 6.0, 7.0], [0, 0.5, 1, 0.5, 0]),
        (jax.nn.relu, [-1.0, 0.0, 2.0], [0, 0, 1]),
        (lax.tanh, [-400.0, 0.0, 400.0], [0, 1, 0]),
        (lax.asinh, [-1e200, 1e200], [1e-200, 1e-200]),
        (lax.expm1, [-50.0], [math.exp(-50)]),
        (lax.erf, [0.0, 30.0], [2 / math.sqrt(math.pi), 0]),
        (jnp.log2, [0.5, 8.0], [2 / math.log(2), 0.125 / math.log(2)]),
        (lambda x: jax.checkpoint(jnp.exp)(jnp.tanh(x)), [0.0], [1]),
        (jax.nn.softplus, [0.0], [0.5]),
        (jnp.square, [3.0], [6]),
        (lambda x: x**5, [2.0], [80]),
        (lambda x: x**-2, [2.0], [-0.25]),
    ],
)
def test_derivatives_at_the_edges(function, values, expected):
    np.testing.assert_allclose(
        gradient_at(function, values), expected, rtol=1e-6, atol=1e-300
    )


def test_rules_stand_below_custom_derivatives():
    @jax.custom_jvp
    def steep(x):
        return jnp.tanh(x)

    @steep.defjvp
    def _(primals, tangents):
        return steep(*primals), 100.0 * tangents[0]

    found = gradient_at(lambda x: jnp.tanh(steep(x)), [0.0, 0.0])
    np.testing.assert_allclose(found, 100.0)


@pytest.mark.parametrize("approximate", [True, False])
def test_gelu_is_differentiated_in_both_forms(approximate):
    x = np.linspace(-4, 4, 33)
    found = gradient_at(lambda x: jax.nn.gelu(x, approximate=approximate), x)
    erf = np.vectorize(math.erf)
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    exact = 0.5 * (1 + erf(x / math.sqrt(2)))
    exact += x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    slope = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x**2)
    tanh = 0.5 * (1 + np.tanh(inner)) + 0.5 * x * slope / np.cosh(inner) ** 2
    np.testing.assert_allclose(found, tanh if approximate else exact, atol=1e-6)


def test_a_custom_derivative_of_other_ops_is_refused_by_name():
    @jax.custom_jvp
    def odd(x):
        return jnp.exp(x)

    @odd.defjvp
    def _(primals, tangents):
        (x,) = primals
        return odd(x), tangents[0] * jnp.cumsum(x)

    def layer(x=moe.tensor("tokens"), *, tokens: int):
        return odd(x)

    with pytest.raises(UnsupportedFunction, match="uses 'cumsum'"):
        trace(layer, tokens=4)
