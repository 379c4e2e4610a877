"""JAX's structural primitives as stablehlo ops: one rule each.

Reductions, broadcasts, reshapes, transposes, slices, concatenations and matrix
products: what a router may use beside elementwise functions.
"""

from collections.abc import Callable, Mapping
from typing import Any

from ir import mlir
from ir.build import array_attribute, broadcast, dot_general, op, reduce
from ir.errors import UnsupportedFunction
from ir.types import Tensor
from moegen.session import dtype_name

Params = Mapping[str, Any]
Rule = Callable[[Params, list[mlir.Value], mlir.Location, Any], mlir.Value]


def kind_of(aval: Any) -> Tensor:
    return Tensor(tuple(aval.shape), dtype_name(aval.dtype))


def _broadcast(
    params: Params, operands: list[mlir.Value], at: Any, aval: Any
) -> mlir.Value:
    return broadcast(operands[0], kind_of(aval), params["broadcast_dimensions"], at)


def _reshape(
    params: Params, operands: list[mlir.Value], at: Any, aval: Any
) -> mlir.Value:
    return op("stablehlo.reshape", operands[:1], kind_of(aval), at)


def _transpose(
    params: Params, operands: list[mlir.Value], at: Any, aval: Any
) -> mlir.Value:
    order = array_attribute(params["permutation"])
    return op("stablehlo.transpose", operands, kind_of(aval), at, permutation=order)


def _slice(
    params: Params, operands: list[mlir.Value], at: Any, aval: Any
) -> mlir.Value:
    strides = params["strides"] or [1] * len(params["start_indices"])
    return op(
        "stablehlo.slice",
        operands,
        kind_of(aval),
        at,
        start_indices=array_attribute(params["start_indices"]),
        limit_indices=array_attribute(params["limit_indices"]),
        strides=array_attribute(strides),
    )


def _concatenate(
    params: Params, operands: list[mlir.Value], at: Any, aval: Any
) -> mlir.Value:
    axis = mlir.Attribute.parse(f"{params['dimension']} : i64", mlir.context())
    return op("stablehlo.concatenate", operands, kind_of(aval), at, dimension=axis)


def _iota(params: Params, operands: list[mlir.Value], at: Any, aval: Any) -> mlir.Value:
    axis = mlir.Attribute.parse(f"{params['dimension']} : i64", mlir.context())
    return op("stablehlo.iota", [], kind_of(aval), at, iota_dimension=axis)


def _dot(params: Params, operands: list[mlir.Value], at: Any, aval: Any) -> mlir.Value:
    contract, batch = params["dimension_numbers"]
    if batch[0]:
        raise UnsupportedFunction(
            mlir.file_and_line(at),
            name="a batched matrix product",
            primitive="dot_general",
        )
    lhs, rhs = operands
    return dot_general(lhs, rhs, contract, kind_of(aval), at)


def _reduction(kind: str) -> Rule:
    def rule(
        params: Params, operands: list[mlir.Value], at: Any, aval: Any
    ) -> mlir.Value:
        return reduce(kind, operands[0], params["axes"], at)

    return rule


STRUCTURAL: dict[str, Rule] = {
    "broadcast_in_dim": _broadcast,
    "reshape": _reshape,
    "squeeze": _reshape,
    "expand_dims": _reshape,
    "transpose": _transpose,
    "slice": _slice,
    "concatenate": _concatenate,
    "iota": _iota,
    "dot_general": _dot,
    "reduce_sum": _reduction("add"),
    "reduce_max": _reduction("maximum"),
    "reduce_min": _reduction("minimum"),
    "reduce_and": _reduction("and"),
    "reduce_or": _reduction("or"),
}
