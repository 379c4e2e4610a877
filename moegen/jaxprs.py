"""Reading jaxprs: literals, calls, what is live, and one equation run by itself."""

from collections.abc import Sequence
from typing import Any

import jax
from jax.extend import core as jex

# Primitives that only call a jaxpr, and the parameter that holds it.
INLINED = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "remat": "jaxpr",
    "remat2": "jaxpr",
    "checkpoint": "jaxpr",
}
# Those that also say how to differentiate it.
CUSTOM = {
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "custom_vjp_call_jaxpr": "fun_jaxpr",
}
CALLS = {**INLINED, **CUSTOM}


def is_literal(variable: Any) -> bool:
    return isinstance(variable, jex.Literal)


def called_jaxpr(eqn: Any) -> tuple[Any, Sequence[Any]] | None:
    """The jaxpr that a call-like equation runs, with its constants; None if none."""
    key = CALLS.get(eqn.primitive.name)
    if key is None:
        return None
    inner = eqn.params[key]
    return (inner.jaxpr, inner.consts) if hasattr(inner, "consts") else (inner, ())


def live_equations(jaxpr: Any) -> list[Any]:
    """The equations whose results reach the jaxpr's outputs, in order."""
    needed = {v for v in jaxpr.outvars if not is_literal(v)}
    kept = []
    for eqn in reversed(jaxpr.eqns):
        if any(v in needed for v in eqn.outvars):
            kept.append(eqn)
            needed.update(v for v in eqn.invars if not is_literal(v))
    return kept[::-1]


def run_equation(eqn: Any, operands: Sequence[Any]) -> list[Any]:
    """The equation's results for its operands that are not literals."""
    inputs = [v for v in eqn.invars if not is_literal(v)]
    structs = [as_large_as_results(v, eqn) for v in inputs]
    shell = jax.make_jaxpr(lambda *_: [0.0] * len(eqn.outvars))(*structs)
    jaxpr = shell.jaxpr.replace(invars=inputs, outvars=list(eqn.outvars), eqns=[eqn])
    return list(jex.jaxpr_as_fun(jex.ClosedJaxpr(jaxpr, []))(*operands))


def as_large_as_results(variable: Any, eqn: Any) -> jax.ShapeDtypeStruct:
    """A variable's dtype at the shape of the equation's results."""
    return jax.ShapeDtypeStruct(eqn.outvars[0].aval.shape, variable.aval.dtype)
