"""What kernels are told at run time: their integer operands, computed on the CPU.

A ragged kernel's grid and path follow from integers, such as the rows of each expert,
and those from a routing. So a traced function is run in part: its integer arguments
and what `top_k` finds come from the routing (`routing`), everything that follows from
floats is unknown, and each `pallas_call` leaves behind the operands that are known.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from backends.tpu.profile.arguments import ArrayArgument
from backends.tpu.profile.calls import KernelCall
from backends.tpu.profile.router_results import ROUTER, router_results
from backends.tpu.profile.routing import Routing

_CALLS = ("jit", "pjit", "closed_call", "core_call", "checkpoint", "remat2", "remat")
_CUSTOM = ("custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr")


class _Unknown:
    """A value that a run would have to tell."""


UNKNOWN = _Unknown()


def kernel_calls(traced: Any, routing: Routing) -> list[KernelCall]:
    """The kernels of `jax.jit(f).trace(...)` in their order, under a routing."""
    closed = traced.jaxpr
    inputs = _arguments([var.aval for var in closed.jaxpr.invars], routing)
    known = [value for value in inputs if value is not UNKNOWN]
    found: list[tuple[str, tuple[str, ...], dict[int, Any]]] = []

    def run(*values: Any) -> list[dict[int, Any]]:
        left = iter(values)
        full = [v if v is UNKNOWN else next(left) for v in inputs]
        found.clear()
        _Partly(routing, found).run(closed.jaxpr, closed.consts, full)
        return [held for *_, held in found]

    values = jax.jit(run)(*known)
    return [
        KernelCall(name, types, {i: _words(value) for i, value in held.items()})
        for (name, types, _), held in zip(found, values, strict=True)
    ]


def _words(value: Any) -> list[int]:
    held = np.asarray(value).astype(np.int64).reshape(-1) & 0xFFFFFFFF
    return [int(word) for word in held]


def _arguments(avals: Sequence[Any], routing: Routing) -> list[Any]:
    """Integers [E] are rows of each expert, [T, K] choices; the rest is unknown.

    Masks are all true. All rows are the leading size of the first argument with two
    axes or more, all experts that of the first one with three.
    """
    rows = next((a.shape[0] for a in avals if len(a.shape) >= 2), 0)
    experts = next((a.shape[0] for a in avals if len(a.shape) >= 3), 0)
    values: list[Any] = []
    for aval in avals:
        integer = jnp.issubdtype(aval.dtype, jnp.integer)
        if integer and len(aval.shape) == 1:
            values.append(routing.sizes(rows, aval.shape[0]).astype(aval.dtype))
        elif integer and len(aval.shape) == 2 and aval.shape[1] <= experts:
            found = routing.choices(aval.shape[0], aval.shape[1], experts)
            values.append(found.astype(aval.dtype))
        elif aval.dtype == jnp.bool_:
            values.append(np.ones(aval.shape, dtype=bool))
        else:
            values.append(UNKNOWN)
    return values


class _Partly:
    """Runs jaxprs as far as their values are known."""

    def __init__(self, routing: Routing, found: list[Any]) -> None:
        self._routing = routing
        self._found = found

    def run(self, jaxpr: Any, consts: Iterable[Any], inputs: Sequence[Any]) -> Any:
        """The outputs, unknown ones among them."""
        held: dict[Any, Any] = {}
        held.update(zip(jaxpr.constvars, consts, strict=True))
        held.update(zip(jaxpr.invars, inputs, strict=True))
        for eqn in jaxpr.eqns:
            values = [_value(atom, held) for atom in eqn.invars]
            made = self._equation(eqn, values)
            held.update(zip(eqn.outvars, made, strict=True))
        return [_value(atom, held) for atom in jaxpr.outvars]

    def _equation(self, eqn: Any, values: list[Any]) -> list[Any]:
        name = eqn.primitive.name
        if name == "pallas_call":
            return self._kernel(eqn, values)
        if name == "top_k":
            return self._choice(eqn)
        if name in _CALLS:
            return self._call(eqn.params["jaxpr"], values)
        if name in _CUSTOM:
            return self._call(eqn.params["call_jaxpr"], values)
        if any(value is UNKNOWN for value in values):
            self._look_inside(eqn, values)
            return [UNKNOWN] * len(eqn.outvars)
        params = eqn.primitive.get_bind_params(eqn.params)
        made = eqn.primitive.bind(*values, **params)
        return list(made) if eqn.primitive.multiple_results else [made]

    def _call(self, inner: Any, values: list[Any]) -> list[Any]:
        closed = isinstance(inner, core.ClosedJaxpr)
        jaxpr, consts = (inner.jaxpr, inner.consts) if closed else (inner, ())
        made: list[Any] = self.run(jaxpr, consts, values)
        return made

    def _kernel(self, eqn: Any, values: list[Any]) -> list[Any]:
        told = {
            i: value
            for i, (atom, value) in enumerate(zip(eqn.invars, values, strict=True))
            if value is not UNKNOWN and jnp.issubdtype(atom.aval.dtype, jnp.integer)
        }
        types = tuple(_type(atom.aval) for atom in eqn.invars)
        name = _name_of(eqn)
        self._found.append((name, types, told))
        if name != ROUTER:
            return [UNKNOWN] * len(eqn.outvars)
        inputs, outputs = ([v.aval for v in vs] for vs in (eqn.invars, eqn.outvars))
        made = router_results(inputs, outputs, self._routing)
        return [UNKNOWN if value is None else value for value in made]

    def _choice(self, eqn: Any) -> list[Any]:
        """What `top_k` finds, [T, K] of E, is the routing; how large it is, is not."""
        operand, (_, ids) = eqn.invars[0].aval, eqn.outvars
        *lead, k = ids.aval.shape
        found = self._routing.choices(int(np.prod(lead)), k, operand.shape[-1])
        return [UNKNOWN, jnp.asarray(found.reshape(ids.aval.shape), ids.aval.dtype)]

    def _look_inside(self, eqn: Any, values: list[Any]) -> None:
        """Kernels in a loop or a branch are seen once, in the first iteration."""
        params = eqn.params
        if eqn.primitive.name == "scan":
            inner = params["jaxpr"]
            takes = getattr(inner, "jaxpr", inner).invars
            # What is scanned over has one axis more than what an iteration takes.
            first = [
                v if v is UNKNOWN or a.aval.shape == var.aval.shape else v[0]
                for v, a, var in zip(values, eqn.invars, takes, strict=True)
            ]
            self._call(inner, first)
        elif eqn.primitive.name == "while":
            self._call(params["body_jaxpr"], values[params["cond_nconsts"] :])
        elif eqn.primitive.name == "cond":
            for branch in params["branches"]:
                self._call(branch, values[1:])


def _value(atom: Any, held: dict[Any, Any]) -> Any:
    return atom.val if isinstance(atom, core.Literal) else held[atom]


def _name_of(eqn: Any) -> str:
    """A kernel's name; older versions keep it beside its source line."""
    told = eqn.params.get("name_and_src_info")
    return str(eqn.params.get("name") or getattr(told, "name", None) or "")


def _type(aval: Any) -> str:
    return str(ArrayArgument(str(aval.dtype), tuple(aval.shape)))
