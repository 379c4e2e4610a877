"""From a JAX equation to the regions of a `moe.map`: the function and its vjp.

The function is traced by JAX at its real shapes; here it is rewritten over scalars, one
stablehlo or chlo op for each primitive. The vjp is JAX's, so custom derivatives of the
user's functions are kept; below them stand some rules of our own (`derivatives.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from ir import mlir
from ir.build import constant
from ir.scalar_ops import BY_PRIMITIVE, COMPARISONS
from ir.types import Tensor, to_mlir
from moegen.derivatives import run
from moegen.jaxprs import (
    CALLS,
    as_large_as_results,
    called_jaxpr,
    is_literal,
    live_equations,
    run_equation,
)
from moegen.session import dtype_name

_PLAIN = {"select_n", "convert_element_type", "integer_pow", "clamp", "copy", "copy_p"}
# Primitives that stand for several ops, some of newer versions of JAX only.
_COMPOSED = {"one_minus_square", "log2", "exp2", "polynomial"}
# Elementwise functions of JAX that the IR has no op for.
UNKNOWN = {
    *("lgamma", "digamma", "erf_inv", "bessel_i0e", "bessel_i1e", "igamma", "igammac"),
    *("polygamma", "zeta", "nextafter", "population_count", "clz", "reduce_precision"),
}
_IDENTITY = {"copy", "copy_p", "stop_gradient", "optimization_barrier"}


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
    structs = [as_large_as_results(v, eqn) for v in operands]
    closed = jax.make_jaxpr(lambda *xs: run_equation(eqn, xs))(*structs)
    return Region(closed.jaxpr, closed.consts, tuple(map(_scalar, operands)))


def vjp_region(eqn: Any, operands: Sequence[Any]) -> Region | None:
    """The equation's vjp as a region: operands and cotangents in, cotangents out.

    Yields one cotangent per operand of floating point; None if there is none, or if a
    result is an integer.
    """
    floats = [i for i, v in enumerate(operands) if _is_float(v)]
    if not floats or not all(map(_is_float, eqn.outvars)):
        return None

    def pullback(primals: list[Any], cotangents: list[Any]) -> list[Any]:
        _, back = jax.vjp(lambda *xs: run(eqn, xs), *primals)
        gradients = back(cotangents)
        return [gradients[i] for i in floats]

    primals = [as_large_as_results(v, eqn) for v in operands]
    cotangents = [as_large_as_results(v, eqn) for v in eqn.outvars]
    closed = jax.make_jaxpr(pullback)(primals, cotangents)
    inputs = tuple(map(_scalar, (*operands, *eqn.outvars)))
    return Region(closed.jaxpr, closed.consts, inputs)


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
        if name in _COMPOSED:
            return [self.composed(name, operands, dtype)]
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

    def composed(self, name: str, operands: list[mlir.Value], dtype: str) -> mlir.Value:
        """A primitive of `_COMPOSED`."""
        x = operands[0]
        kind = Tensor((), dtype)
        if name == "one_minus_square":
            one = constant(kind, 1, self.location)
            below = self.op("stablehlo.subtract", [one, x], dtype)
            above = self.op("stablehlo.add", [one, x], dtype)
            return self.op("stablehlo.multiply", [below, above], dtype)
        if name == "log2":
            natural = self.op("stablehlo.log", [x], dtype)
            scale = constant(kind, np.log(2.0), self.location)
            return self.op("stablehlo.divide", [natural, scale], dtype)
        if name == "exp2":
            scale = constant(kind, np.log(2.0), self.location)
            natural = self.op("stablehlo.multiply", [x, scale], dtype)
            return self.op("stablehlo.exponential", [natural], dtype)
        # A polynomial by Horner's rule; its constant coefficient comes first.
        *rest, result = operands[1:]
        for coefficient in reversed(rest):
            product = self.op("stablehlo.multiply", [result, x], dtype)
            result = self.op("stablehlo.add", [product, coefficient], dtype)
        return result

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
