"""The elementwise ops that a layer may use: one row each.

A row ties together the names of one function: JAX's primitive (what tracing meets), the
stablehlo or chlo op (what the IR holds), its float64 meaning in NumPy (what the oracle
computes) and its Python spelling (what emitted modules say).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class ScalarOp:
    """One elementwise function.

    `python` is a format over operand texts. Its `binding` is how tightly the outermost
    operator of that text binds, in Python's order: 1 comparison, 2 `|`, 3 `^`, 4 `&`,
    5 shift, 6 sum, 7 product, 8 sign, 9 atom; operands that bind looser get brackets.
    """

    primitive: str
    op: str
    numpy: Callable[..., Any]
    python: str
    binding: int = 9


def _elementwise(function: Callable[[float], float]) -> Callable[..., Any]:
    return np.vectorize(function, otypes=[np.float64])


def _logistic(x: np.ndarray) -> np.ndarray:
    return np.asarray(1.0 / (1.0 + np.exp(-x)))


def _lax_round(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.trunc(x + np.copysign(0.5, x)))


def _divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if np.issubdtype(np.asarray(a).dtype, np.integer):
        return np.asarray(np.trunc(a / b)).astype(np.asarray(a).dtype)
    return np.asarray(a / b)


def _atan2(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray(np.arctan2(a, b))


SCALAR_OPS = (
    ScalarOp("add", "stablehlo.add", np.add, "{0} + {1}", 6),
    ScalarOp("add_any", "stablehlo.add", np.add, "{0} + {1}", 6),
    ScalarOp("sub", "stablehlo.subtract", np.subtract, "{0} - {1}", 6),
    ScalarOp("mul", "stablehlo.multiply", np.multiply, "{0} * {1}", 7),
    ScalarOp("div", "stablehlo.divide", _divide, "{0} / {1}", 7),
    ScalarOp("rem", "stablehlo.remainder", np.fmod, "jnp.fmod({0}, {1})"),
    ScalarOp("pow", "stablehlo.power", np.power, "{0} ** {1}", 9),
    ScalarOp("max", "stablehlo.maximum", np.maximum, "jnp.maximum({0}, {1})"),
    ScalarOp("min", "stablehlo.minimum", np.minimum, "jnp.minimum({0}, {1})"),
    ScalarOp("atan2", "stablehlo.atan2", _atan2, "jnp.arctan2({0}, {1})"),
    ScalarOp("neg", "stablehlo.negate", np.negative, "-{0}", 8),
    ScalarOp("abs", "stablehlo.abs", np.abs, "jnp.abs({0})"),
    ScalarOp("sign", "stablehlo.sign", np.sign, "jnp.sign({0})"),
    ScalarOp("exp", "stablehlo.exponential", np.exp, "jnp.exp({0})"),
    ScalarOp("expm1", "stablehlo.exponential_minus_one", np.expm1, "jnp.expm1({0})"),
    ScalarOp("log", "stablehlo.log", np.log, "jnp.log({0})"),
    ScalarOp("log1p", "stablehlo.log_plus_one", np.log1p, "jnp.log1p({0})"),
    ScalarOp("logistic", "stablehlo.logistic", _logistic, "lax.logistic({0})"),
    ScalarOp("tanh", "stablehlo.tanh", np.tanh, "jnp.tanh({0})"),
    ScalarOp("sin", "stablehlo.sine", np.sin, "jnp.sin({0})"),
    ScalarOp("cos", "stablehlo.cosine", np.cos, "jnp.cos({0})"),
    ScalarOp("tan", "stablehlo.tan", np.tan, "jnp.tan({0})"),
    ScalarOp("sinh", "chlo.sinh", np.sinh, "jnp.sinh({0})"),
    ScalarOp("cosh", "chlo.cosh", np.cosh, "jnp.cosh({0})"),
    ScalarOp("asin", "chlo.asin", np.arcsin, "jnp.arcsin({0})"),
    ScalarOp("acos", "chlo.acos", np.arccos, "jnp.arccos({0})"),
    ScalarOp("atan", "chlo.atan", np.arctan, "jnp.arctan({0})"),
    ScalarOp("asinh", "chlo.asinh", np.arcsinh, "jnp.arcsinh({0})"),
    ScalarOp("acosh", "chlo.acosh", np.arccosh, "jnp.arccosh({0})"),
    ScalarOp("atanh", "chlo.atanh", np.arctanh, "jnp.arctanh({0})"),
    ScalarOp("erf", "chlo.erf", _elementwise(math.erf), "lax.erf({0})"),
    ScalarOp("erfc", "chlo.erfc", _elementwise(math.erfc), "lax.erfc({0})"),
    ScalarOp("sqrt", "stablehlo.sqrt", np.sqrt, "jnp.sqrt({0})"),
    ScalarOp("rsqrt", "stablehlo.rsqrt", lambda x: 1 / np.sqrt(x), "lax.rsqrt({0})"),
    ScalarOp("cbrt", "stablehlo.cbrt", np.cbrt, "jnp.cbrt({0})"),
    ScalarOp("square", "chlo.square", np.square, "jnp.square({0})"),
    ScalarOp("floor", "stablehlo.floor", np.floor, "jnp.floor({0})"),
    ScalarOp("ceil", "stablehlo.ceil", np.ceil, "jnp.ceil({0})"),
    ScalarOp("round", "stablehlo.round_nearest_afz", _lax_round, "lax.round({0})"),
    ScalarOp("is_finite", "stablehlo.is_finite", np.isfinite, "jnp.isfinite({0})"),
    ScalarOp("and", "stablehlo.and", np.bitwise_and, "{0} & {1}", 4),
    ScalarOp("or", "stablehlo.or", np.bitwise_or, "{0} | {1}", 2),
    ScalarOp("xor", "stablehlo.xor", np.bitwise_xor, "{0} ^ {1}", 3),
    ScalarOp("not", "stablehlo.not", np.invert, "~{0}", 8),
)

BY_PRIMITIVE = {row.primitive: row for row in SCALAR_OPS}
BY_OP = {row.op: row for row in reversed(SCALAR_OPS)}

# Ops with more than operands: JAX's comparisons, selection and conversion.
COMPARISONS = {
    "eq": ("EQ", np.equal, "{0} == {1}"),
    "ne": ("NE", np.not_equal, "{0} != {1}"),
    "lt": ("LT", np.less, "{0} < {1}"),
    "le": ("LE", np.less_equal, "{0} <= {1}"),
    "gt": ("GT", np.greater, "{0} > {1}"),
    "ge": ("GE", np.greater_equal, "{0} >= {1}"),
}
BY_DIRECTION = {row[0]: row for row in COMPARISONS.values()}
