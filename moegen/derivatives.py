"""Derivatives of our own, for the primitives that JAX differentiates in many ways.

JAX differentiates the layer's elementwise functions, so custom derivatives hold. But
its rules for the primitives below change from version to version: in form, in accuracy,
and in what they are made of. With a rule here, every version traces the same IR.
"""

import functools
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from moegen.jaxprs import INLINED, called_jaxpr, is_literal, live_equations
from moegen.jaxprs import run_equation as _run

# From the answer and the operands, the derivative by one operand.
Factor = Callable[..., jax.Array]


def _complement(x: jax.Array) -> jax.Array:
    """1 - x * x, exact near x = 1 and x = -1."""
    return (1 - x) * (1 + x)


def _asinh(_: jax.Array, x: jax.Array) -> jax.Array:
    """1 / sqrt(1 + x * x), where x * x may overflow."""
    size, one = abs(x), jnp.ones_like(x)
    larger, smaller = lax.max(size, one), lax.min(size, one)
    ratio = smaller / larger
    return lax.rsqrt(1 + ratio * ratio) / larger


def _bell(x: jax.Array) -> jax.Array:
    """The derivative of erf."""
    return 2 / math.sqrt(math.pi) * lax.exp(-(x * x))


def _share(first: jax.Array, second: jax.Array) -> jax.Array:
    """1 where first is larger, 0 where second is, and 0.5 where they are equal."""
    one, half, zero = (lax.full_like(first, value) for value in (1, 0.5, 0))
    tied = lax.select(lax.eq(first, second), half, zero)
    return lax.select(lax.gt(first, second), one, tied)


RULES: Mapping[str, tuple[Factor, ...]] = {
    "tanh": (lambda y, x: _complement(y),),
    "asin": (lambda y, x: lax.rsqrt(_complement(x)),),
    "acos": (lambda y, x: -lax.rsqrt(_complement(x)),),
    "asinh": (_asinh,),
    "acosh": (lambda y, x: lax.rsqrt(x - 1) * lax.rsqrt(x + 1),),
    "atanh": (lambda y, x: 1 / _complement(x),),
    "expm1": (lambda y, x: lax.exp(x),),
    "log2": (lambda y, x: (1 / math.log(2)) / x,),
    "exp2": (lambda y, x: math.log(2) * y,),
    "erf": (lambda y, x: _bell(x),),
    "erfc": (lambda y, x: -_bell(x),),
    "max": (lambda y, a, b: _share(a, b), lambda y, a, b: _share(b, a)),
    "min": (lambda y, a, b: _share(b, a), lambda y, a, b: _share(a, b)),
}


def run(eqn: Any, operands: Sequence[Any]) -> list[Any]:
    """The results of an equation, for operands that are not literals.

    Differentiated by the rules above wherever they hold, and otherwise by JAX.
    """
    inner = called_jaxpr(eqn) if eqn.primitive.name in INLINED else None
    if inner is not None:
        return _run_jaxpr(*inner, _with_literals(eqn, operands))
    if eqn.primitive.name in RULES and _is_float(eqn.outvars[0]):
        return [_run_by_rule(eqn, operands)]
    return _run(eqn, operands)


def _run_jaxpr(
    jaxpr: Any, consts: Sequence[Any], arguments: Sequence[Any]
) -> list[Any]:
    values = dict(zip(jaxpr.constvars, consts, strict=True))
    values.update(zip(jaxpr.invars, arguments, strict=True))
    for eqn in live_equations(jaxpr):
        results = run(eqn, [values[v] for v in eqn.invars if not is_literal(v)])
        values.update(zip(eqn.outvars, results, strict=True))
    return [_literal(v) if is_literal(v) else values[v] for v in jaxpr.outvars]


def _run_by_rule(eqn: Any, operands: Sequence[Any]) -> Any:
    factors = RULES[eqn.primitive.name]
    free = [i for i, v in enumerate(eqn.invars) if not is_literal(v)]
    shape = eqn.outvars[0].aval.shape

    @jax.custom_jvp
    def function(*given: jax.Array) -> Any:
        return _run(eqn, given)[0]

    @function.defjvp
    def derivative(primals: Any, tangents: Any) -> Any:
        answer = function(*primals)
        full = [jnp.broadcast_to(v, shape) for v in _with_literals(eqn, primals)]
        terms = [
            tangent * factors[i](answer, *full)
            for i, tangent in zip(free, tangents, strict=True)
        ]
        return answer, functools.reduce(operator.add, terms)

    return function(*operands)


def _with_literals(eqn: Any, operands: Sequence[Any]) -> list[Any]:
    given = iter(operands)
    return [_literal(v) if is_literal(v) else next(given) for v in eqn.invars]


def _literal(variable: Any) -> np.ndarray:
    return np.asarray(variable.val, variable.aval.dtype)


def _is_float(variable: Any) -> bool:
    return jnp.issubdtype(variable.aval.dtype, jnp.floating)
