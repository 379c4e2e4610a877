"""Builders of stablehlo ops at the insertion point."""

from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np

from ir import mlir
from ir.types import Tensor, from_mlir, to_attribute, to_mlir

_LOWEST = {"bool": False, "int32": -(2**31), "int64": -(2**63)}
_HIGHEST = {"bool": True, "int32": 2**31 - 1, "int64": 2**63 - 1}
_NUMPY: dict[str, Any] = {"bfloat16": ml_dtypes.bfloat16}


def constant(kind: Tensor, value: Any, location: mlir.Location) -> mlir.Value:
    """A stablehlo constant of one number, spread over `kind`."""
    scalar = np.asarray(value).reshape(()).item()
    text = _number(scalar, kind)
    attribute = mlir.Attribute.parse(f"dense<{text}> : {to_mlir(kind)}", mlir.context())
    made = mlir.create(
        "stablehlo.constant", [], [to_mlir(kind)], {"value": attribute}, location
    )
    return made.results[0]


def _number(scalar: Any, kind: Tensor) -> str:
    if kind.dtype == "bool":
        return "true" if scalar else "false"
    if not kind.is_float:
        return str(int(scalar))
    if np.isfinite(scalar):
        return f"{float(scalar):.17e}"
    bits = {"float64": np.uint64, "float32": np.uint32}.get(kind.dtype, np.uint16)
    dtype = np.dtype(_NUMPY.get(kind.dtype, kind.dtype))
    return f"0x{np.array(scalar, dtype).view(bits).item():X}"


def array_attribute(values: Sequence[int]) -> mlir.Attribute:
    """A dense array of int64, as stablehlo wants its dimensions."""
    inner = f": {', '.join(map(str, values))}" if values else ""
    return mlir.Attribute.parse(f"array<i64{inner}>", mlir.context())


def op(
    name: str,
    operands: Sequence[mlir.Value],
    result: Tensor,
    location: mlir.Location,
    **attributes: mlir.Attribute,
) -> mlir.Value:
    made = mlir.create(name, operands, [to_mlir(result)], attributes, location)
    return made.results[0]


def broadcast(
    value: mlir.Value,
    result: Tensor,
    dimensions: Sequence[int],
    location: mlir.Location,
) -> mlir.Value:
    """`value` spread over `result`: its axis i becomes axis dimensions[i]."""
    dims = array_attribute(dimensions)
    return op(
        "stablehlo.broadcast_in_dim",
        [value],
        result,
        location,
        broadcast_dimensions=dims,
    )


def reduce(
    kind: str, value: mlir.Value, axes: Sequence[int], location: mlir.Location
) -> mlir.Value:
    """Reduce over axes by the stablehlo op `kind` (add, maximum, minimum, and, or)."""
    source = from_mlir(value.type)
    shape = tuple(n for i, n in enumerate(source.shape) if i not in axes)
    start = constant(Tensor((), source.dtype), neutral(kind, source), location)
    made = mlir.create(
        "stablehlo.reduce",
        [value, start],
        [to_mlir(Tensor(shape, source.dtype))],
        {"dimensions": array_attribute(sorted(axes))},
        location,
        regions=1,
    )
    scalar = to_mlir(Tensor((), source.dtype))
    block = mlir.add_block(made.regions[0], [scalar, scalar])
    with mlir.InsertionPoint(block):
        inner = mlir.create(
            f"stablehlo.{kind}", block.arguments, [scalar], None, location
        )
        mlir.create("stablehlo.return", inner.results, [], None, location)
    return made.results[0]


def neutral(kind: str, source: Tensor) -> Any:
    """The number that a reduction by the stablehlo op `kind` begins with."""
    if kind in ("add", "or"):
        return 0
    if kind in ("multiply", "and"):
        return 1
    if source.is_float:
        return float("-inf") if kind == "maximum" else float("inf")
    return (_LOWEST if kind == "maximum" else _HIGHEST)[source.dtype]


def dot_general(
    lhs: mlir.Value,
    rhs: mlir.Value,
    contract: tuple[Sequence[int], Sequence[int]],
    result: Tensor,
    location: mlir.Location,
    batch: tuple[Sequence[int], Sequence[int]] = ((), ()),
) -> mlir.Value:
    """A product contracting lhs axes contract[0] with rhs axes contract[1]."""
    fields = {
        "lhs_batching_dimensions": batch[0],
        "rhs_batching_dimensions": batch[1],
        "lhs_contracting_dimensions": contract[0],
        "rhs_contracting_dimensions": contract[1],
    }
    inner = ", ".join(f"{k} = {list(v)}" for k, v in fields.items() if len(v))
    text = f"#stablehlo.dot<{inner}>"
    numbers = mlir.Attribute.parse(text, mlir.context())
    return op(
        "stablehlo.dot_general",
        [lhs, rhs],
        result,
        location,
        dot_dimension_numbers=numbers,
    )


def elementwise(
    name: str, op_name: str, operands: Sequence[mlir.Value], location: mlir.Location
) -> mlir.Value:
    """A `moe.map` of one scalar op over operands of one shape, without a vjp."""
    kind = from_mlir(operands[0].type)
    return mapped(name, op_name, operands, kind.dtype, location)


def convert(value: mlir.Value, dtype: str, location: mlir.Location) -> mlir.Value:
    """`value` in another dtype, as a `moe.map`; itself if it has that dtype."""
    if from_mlir(value.type).dtype == dtype:
        return value
    return mapped("convert", "stablehlo.convert", [value], dtype, location)


def mapped(
    name: str,
    op_name: str,
    operands: Sequence[mlir.Value],
    dtype: str,
    location: mlir.Location,
) -> mlir.Value:
    """A `moe.map` of one scalar op with results of `dtype`."""
    shape = from_mlir(operands[0].type).shape
    made = mlir.create(
        "moe.map",
        operands,
        [to_mlir(Tensor(shape, dtype))],
        {"name": to_attribute(name), "results": to_attribute([dtype])},
        location,
        regions=2,
    )
    scalars = [to_mlir(Tensor((), from_mlir(v.type).dtype)) for v in operands]
    block = mlir.add_block(made.regions[0], scalars)
    with mlir.InsertionPoint(block):
        value = op(op_name, list(block.arguments), Tensor((), dtype), location)
        mlir.create("moe.yield", [value], [], None, location)
    return made.results[0]
