"""From a JAX equation to the regions of a `moe.map`: the function and its vjp.

The function is traced by JAX at its real shapes; here it is rewritten over scalars, one
stablehlo or chlo op for each primitive. The vjp is JAX's own, so custom derivatives of
the user's functions are kept.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import jax
import numpy as np
from jax.extend import core as jex

from ir import mlir
from ir.build import constant
from ir.scalar_ops import BY_PRIMITIVE, COMPARISONS
from ir.types import Tensor, to_mlir
from moegen.session import dtype_name

# Primitives that only call a jaxpr, and the parameter that holds it.
CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "custom_vjp_call_jaxpr": "fun_jaxpr",
    "remat": "jaxpr",
    "checkpoint": "jaxpr",
}
_PLAIN = {"select_n", "convert_element_type", "integer_pow", "clamp", "copy", "copy_p"}
# Primitives of newer versions of JAX that stand for several ops.
_COMPOSED = {"one_minus_square", "log2"}
_IDENTITY = {"copy", "copy_p", "stop_gradient", "optimization_barrier"}


def called_jaxpr(eqn: Any) -> tuple[Any, Sequence[Any]] | None:
    """The jaxpr that a call-like equation runs, with its constants; None if none."""
    key = CALLS.get(eqn.primitive.name)
    if key is None:
        return None
    inner = eqn.params[key]
    return (inner.jaxpr, inner.consts) if hasattr(inner, "consts") else (inner, ())


def offender(eqn: Any) -> str | None:
    """The first primitive in an equation that is not elementwise; None if all are."""
    inner = called_jaxpr(eqn)
    if inner is not None:
        jaxpr, consts = inner
        if any(np.ndim(const) for const in consts):
            return "an array constant"
        return next(filter(None, map(offender, jaxpr.eqns)), None)
    name = eqn.primitive.name
    if name == "broadcast_in_dim" and not eqn.invars[0].aval.shape:
        return None
    known = (
        name in BY_PRIMITIVE
        or name in COMPARISONS
        or name in _PLAIN | _IDENTITY | _COMPOSED
    )
    return None if known else name


def is_elementwise(eqn: Any) -> bool:
    """Whether no op mixes elements, and all operands meet the results' shape.

    A primitive's operands may have axes of size 1, or be scalars: JAX spreads them. A
    called function is taken whole only if its operands need no spreading.
    """
    shape = eqn.outvars[0].aval.shape
    operands = [v for v in eqn.invars if not (is_literal(v) and not v.aval.shape)]
    if (
        not operands
        or offender(eqn) is not None
        or eqn.primitive.name == "broadcast_in_dim"
    ):
        return False
    if any(v.aval.shape != shape for v in eqn.outvars):
        return False
    if eqn.primitive.name in CALLS:
        return all(v.aval.shape == shape for v in operands)
    return all(_spreads_to(v.aval.shape, shape) for v in operands)


def _spreads_to(small: tuple[int, ...], large: tuple[int, ...]) -> bool:
    if not small:
        return True
    pairs = zip(small, large, strict=False)
    return len(small) == len(large) and all(a in (1, b) for a, b in pairs)


def is_literal(variable: Any) -> bool:
    return isinstance(variable, jex.Literal)


@dataclass(frozen=True)
class Region:
    """A jaxpr over equal shapes, to be written as a region over scalars."""

    jaxpr: Any
    consts: Sequence[Any]
    inputs: tuple[Tensor, ...]

    def emit(self, block: mlir.Block, location: mlir.Location) -> None:
        """Write the ops and the yield into `block`."""
        with mlir.InsertionPoint(block):
            emitter = _Emitter(location)
            results = emitter.jaxpr(self.jaxpr, self.consts, list(block.arguments))
            mlir.create("moe.yield", results, [], None, location)


def function_region(eqn: Any, operands: Sequence[Any]) -> Region:
    """The equation itself as a region."""
    structs = [_struct(v, eqn) for v in operands]
    closed = jax.make_jaxpr(_callable(eqn))(*structs)
    return Region(closed.jaxpr, closed.consts, tuple(map(_scalar, operands)))


def vjp_region(eqn: Any, operands: Sequence[Any]) -> Region | None:
    """The equation's vjp as a region: operands and cotangents in, cotangents out.

    Yields one cotangent per operand of floating point; None if there is none, or if a
    result is an integer.
    """
    floats = [i for i, v in enumerate(operands) if _is_float(v)]
    if not floats or not all(map(_is_float, eqn.outvars)):
        return None
    function = _callable(eqn)

    def pullback(primals: list[Any], cotangents: list[Any]) -> list[Any]:
        _, back = jax.vjp(lambda *xs: list(function(*xs)), *primals)
        gradients = back(cotangents)
        return [gradients[i] for i in floats]

    primals = [_struct(v, eqn) for v in operands]
    cotangents = [_struct(v, eqn) for v in eqn.outvars]
    closed = jax.make_jaxpr(pullback)(primals, cotangents)
    inputs = tuple(map(_scalar, (*operands, *eqn.outvars)))
    return Region(closed.jaxpr, closed.consts, inputs)


def _callable(eqn: Any) -> Callable[..., list[Any]]:
    """The equation as a function of its operands that are not literals."""
    inputs = [v for v in eqn.invars if not is_literal(v)]
    structs = [_struct(v, eqn) for v in inputs]
    shell = jax.make_jaxpr(lambda *xs: [xs[0]] * len(eqn.outvars))(*structs)
    jaxpr = shell.jaxpr.replace(invars=inputs, outvars=list(eqn.outvars), eqns=[eqn])
    return cast(Callable[..., list[Any]], jex.jaxpr_as_fun(jex.ClosedJaxpr(jaxpr, [])))


def _struct(variable: Any, eqn: Any) -> jax.ShapeDtypeStruct:
    """A variable's dtype at the shape of the equation's results."""
    return jax.ShapeDtypeStruct(eqn.outvars[0].aval.shape, variable.aval.dtype)


def _scalar(variable: Any) -> Tensor:
    return Tensor((), dtype_name(variable.aval.dtype))


def _is_float(variable: Any) -> bool:
    return _scalar(variable).is_float


class _Emitter:
    """Writes the equations of a jaxpr as scalar ops."""

    def __init__(self, location: mlir.Location) -> None:
        self.location = location

    def jaxpr(
        self, jaxpr: Any, consts: Sequence[Any], arguments: list[mlir.Value]
    ) -> list[mlir.Value]:
        values: dict[Any, mlir.Value] = dict(zip(jaxpr.invars, arguments, strict=True))
        for variable, const in zip(jaxpr.constvars, consts, strict=True):
            values[variable] = self.constant(np.asarray(const), variable.aval.dtype)

        def read(v: Any) -> mlir.Value:
            return self.constant(v.val, v.aval.dtype) if is_literal(v) else values[v]

        for eqn in live_equations(jaxpr):
            results = self.equation(eqn, [read(v) for v in eqn.invars])
            values.update(zip(eqn.outvars, results, strict=False))
        return [read(v) for v in jaxpr.outvars]

    def equation(self, eqn: Any, operands: list[mlir.Value]) -> list[mlir.Value]:
        inner = called_jaxpr(eqn)
        if inner is not None:
            return self.jaxpr(inner[0], inner[1], operands)
        name = eqn.primitive.name
        if name in _IDENTITY or name == "broadcast_in_dim":
            return operands[:1]
        dtype = dtype_name(eqn.outvars[0].aval.dtype)
        if name == "convert_element_type":
            if dtype_name(eqn.invars[0].aval.dtype) == dtype:
                return operands
            return [self.op("stablehlo.convert", operands, dtype)]
        if name == "integer_pow":
            return [self.power(operands[0], eqn.params["y"], dtype)]
        if name == "one_minus_square":
            one = constant(Tensor((), dtype), 1, self.location)
            squared = self.op("stablehlo.multiply", [*operands, *operands], dtype)
            return [self.op("stablehlo.subtract", [one, squared], dtype)]
        if name == "log2":
            scale = constant(Tensor((), dtype), 1 / np.log(2.0), self.location)
            natural = self.op("stablehlo.log", operands, dtype)
            return [self.op("stablehlo.multiply", [natural, scale], dtype)]
        if name == "select_n":
            predicate, other, chosen = operands
            return [self.op("stablehlo.select", [predicate, chosen, other], dtype)]
        if name == "clamp":
            return [self.op("stablehlo.clamp", operands, dtype)]
        if name in COMPARISONS:
            direction = COMPARISONS[name][0]
            text = f"#stablehlo<comparison_direction {direction}>"
            attribute = mlir.Attribute.parse(text, mlir.context())
            attributes = {"comparison_direction": attribute}
            return [self.op("stablehlo.compare", operands, "bool", attributes)]
        return [self.op(BY_PRIMITIVE[name].op, operands, dtype)]

    def op(
        self,
        name: str,
        operands: list[mlir.Value],
        dtype: str,
        attributes: dict[str, mlir.Attribute] | None = None,
    ) -> mlir.Value:
        kind = to_mlir(Tensor((), dtype))
        return mlir.create(name, operands, [kind], attributes, self.location).results[0]

    def constant(self, value: Any, dtype: Any) -> mlir.Value:
        return constant(Tensor((), dtype_name(dtype)), value, self.location)

    def power(self, base: mlir.Value, exponent: int, dtype: str) -> mlir.Value:
        """base ** exponent by repeated products, as XLA expands it."""
        if exponent < 0:
            one = constant(Tensor((), dtype), 1, self.location)
            below = self.power(base, -exponent, dtype)
            return self.op("stablehlo.divide", [one, below], dtype)
        if exponent == 0:
            return constant(Tensor((), dtype), 1, self.location)
        result = base
        for _ in range(exponent - 1):
            result = self.op("stablehlo.multiply", [result, base], dtype)
        return result


def live_equations(jaxpr: Any) -> list[Any]:
    """The equations whose results reach the jaxpr's outputs, in order."""
    needed = {v for v in jaxpr.outvars if not is_literal(v)}
    kept = []
    for eqn in reversed(jaxpr.eqns):
        if any(v in needed for v in eqn.outvars):
            kept.append(eqn)
            needed.update(v for v in eqn.invars if not is_literal(v))
    return kept[::-1]
