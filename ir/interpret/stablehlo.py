"""The ops of stablehlo that a layer may hold beside the elementwise ones."""

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from ir import mlir
from ir.errors import IllegalIR
from ir.interpret.arrays import Array, in_float64, numpy_dtype
from ir.scalar_ops import BY_DIRECTION
from ir.types import Tensor, from_mlir

_REDUCERS: dict[str, np.ufunc] = {
    "stablehlo.add": np.add,
    "stablehlo.multiply": np.multiply,
    "stablehlo.maximum": np.maximum,
    "stablehlo.minimum": np.minimum,
    "stablehlo.and": np.bitwise_and,
    "stablehlo.or": np.bitwise_or,
}


def _attribute(op: mlir.OpView, name: str) -> Any:
    return op.operation.attributes[name]


def _integers(op: mlir.OpView, name: str) -> tuple[int, ...]:
    return tuple(int(n) for n in _attribute(op, name))


def _integer(op: mlir.OpView, name: str) -> int:
    return int(_attribute(op, name).value)


def _result(op: mlir.OpView) -> Tensor:
    return from_mlir(op.operation.results[0].type)


def constant(op: mlir.OpView) -> Array:
    value, kind = _attribute(op, "value"), _result(op)
    if value.is_splat:
        number = mlir.attribute_value(value.get_splat_value())
        return np.full(kind.shape, number, numpy_dtype(kind))
    if kind.dtype != "bfloat16":
        return in_float64(np.array(value), kind)
    # The bindings cannot read bfloat16 elements; rounding float32 ones gives them back.
    text = str(value).replace("xbf16>", "xf32>")
    as_float32 = mlir.Attribute.parse(text, mlir.context())
    return in_float64(np.array(as_float32).astype(ml_dtypes.bfloat16), kind)


def compare(op: mlir.OpView, a: Array, b: Array) -> Array:
    printed = str(_attribute(op, "comparison_direction"))
    direction = printed.removesuffix(">").split()[-1]
    return np.asarray(BY_DIRECTION[direction][1](a, b))


def select(op: mlir.OpView, condition: Array, a: Array, b: Array) -> Array:
    return np.where(condition, a, b)


def convert(op: mlir.OpView, x: Array) -> Array:
    return np.asarray(x != 0) if _result(op).dtype == "bool" else x


def clamp(op: mlir.OpView, low: Array, x: Array, high: Array) -> Array:
    return np.asarray(np.minimum(np.maximum(x, low), high))


def broadcast_in_dim(op: mlir.OpView, x: Array) -> Array:
    shape, axes = _result(op).shape, _integers(op, "broadcast_dimensions")
    sizes = [1] * len(shape)
    for size, axis in zip(x.shape, axes, strict=True):
        sizes[axis] = size
    return np.broadcast_to(x.transpose(np.argsort(axes)).reshape(sizes), shape)


def reshape(op: mlir.OpView, x: Array) -> Array:
    return x.reshape(_result(op).shape)


def transpose(op: mlir.OpView, x: Array) -> Array:
    return x.transpose(_integers(op, "permutation"))


def reduce(op: mlir.OpView, *operands: Array) -> Array:
    body = [inner.operation.name for inner in op.operation.regions[0].blocks[0]]
    if len(operands) != 2 or len(body) != 2 or body[0] not in _REDUCERS:
        raise IllegalIR(
            op="stablehlo.reduce",
            after="when interpreted",
            reason=f"it must reduce one tensor by one op of {', '.join(_REDUCERS)}, "
            f"and its region holds {', '.join(body)}",
        )
    x, initial = operands
    reducer, axes = _REDUCERS[body[0]], _integers(op, "dimensions")
    reduced = reducer.reduce(x, axis=axes, dtype=x.dtype, initial=initial[()])
    return np.asarray(reduced)


def dot_general(op: mlir.OpView, a: Array, b: Array) -> Array:
    printed = _attribute(op, "dot_dimension_numbers")
    dims = mlir.stablehlo.DotDimensionNumbers(printed)  # type: ignore[attr-defined]
    in_a, in_b = list(range(a.ndim)), list(range(a.ndim, a.ndim + b.ndim))
    for axis_a, axis_b in zip(
        [*dims.lhs_batching_dimensions, *dims.lhs_contracting_dimensions],
        [*dims.rhs_batching_dimensions, *dims.rhs_contracting_dimensions],
        strict=True,
    ):
        in_b[axis_b] = in_a[axis_a]
    batch = [in_a[axis] for axis in dims.lhs_batching_dimensions]
    summed = [in_a[axis] for axis in dims.lhs_contracting_dimensions]
    free = [n for n in in_a + in_b if n not in batch + summed]
    product = np.einsum(a, in_a, b, in_b, batch + free, optimize=True)
    return np.asarray(product)


def slice_(op: mlir.OpView, x: Array) -> Array:
    starts, stops = _integers(op, "start_indices"), _integers(op, "limit_indices")
    return np.asarray(x[tuple(map(slice, starts, stops, _integers(op, "strides")))])


def concatenate(op: mlir.OpView, *operands: Array) -> Array:
    return np.concatenate(operands, axis=_integer(op, "dimension"))


def pad(op: mlir.OpView, x: Array, padding: Array) -> Array:
    low = _integers(op, "edge_padding_low")
    interior = _integers(op, "interior_padding")
    shape = _result(op).shape
    out = np.full(shape, padding, x.dtype)
    for source in np.ndindex(*x.shape):
        target = tuple(
            edge + n * (gap + 1)
            for edge, n, gap in zip(low, source, interior, strict=True)
        )
        if all(0 <= n < size for n, size in zip(target, shape, strict=True)):
            out[target] = x[source]
    return out


def iota(op: mlir.OpView) -> Array:
    shape, axis = _result(op).shape, _integer(op, "iota_dimension")
    return np.asarray(np.indices(shape)[axis])


def reverse(op: mlir.OpView, x: Array) -> Array:
    return np.flip(x, _integers(op, "dimensions"))


RULES: dict[str, Callable[..., Array]] = {
    "stablehlo.constant": constant,
    "stablehlo.compare": compare,
    "stablehlo.select": select,
    "stablehlo.convert": convert,
    "stablehlo.clamp": clamp,
    "stablehlo.broadcast_in_dim": broadcast_in_dim,
    "stablehlo.reshape": reshape,
    "stablehlo.transpose": transpose,
    "stablehlo.reduce": reduce,
    "stablehlo.dot_general": dot_general,
    "stablehlo.slice": slice_,
    "stablehlo.concatenate": concatenate,
    "stablehlo.pad": pad,
    "stablehlo.iota": iota,
    "stablehlo.reverse": reverse,
}
