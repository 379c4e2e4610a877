"""Ops of a layer's functions, outside block programs, as Python expressions."""

from collections.abc import Callable, Sequence
from typing import Any

from backends.scalar_text import Text, dtype_text, number
from ir import mlir
from ir.errors import UnsupportedByTarget
from ir.op import attributes_of, operand_types, result_types
from ir.types import Tensor, from_attribute

Render = Callable[[mlir.OpView, Sequence[Text]], Text]


def expression_of(op: mlir.OpView, operands: Sequence[Text]) -> Text:
    """The op as one expression; raises `UnsupportedByTarget` for an op unknown here."""
    render = _RENDER.get(op.operation.name)
    if render is None:
        raise UnsupportedByTarget(
            target="every target",
            what=op.operation.name,
            reason="it has no XLA form here",
        )
    return render(op, operands)


def _call(name: str, *keywords: str) -> Render:
    def render(op: mlir.OpView, operands: Sequence[Text]) -> Text:
        told = attributes_of(op)
        extra = [f"{key}={told[key]!r}" for key in keywords]
        return Text(f"{name}({', '.join([*(t.text for t in operands), *extra])})")

    return render


def _constant(op: mlir.OpView, operands: Sequence[Text]) -> Text:
    (kind,) = result_types(op)
    value = from_attribute(mlir.attributes(op)["value"])
    if isinstance(value, str):
        items = mlir.dense_items(op)
        return Text(
            f"jnp.array({items}, jnp.{dtype_text(kind.dtype)}).reshape({kind.shape})"
        )
    if not kind.shape:
        return Text(f"jnp.{dtype_text(kind.dtype)}({number(value, kind.dtype)})")
    dtype = dtype_text(kind.dtype)
    if value == 0:
        return Text(f"jnp.zeros({kind.shape}, jnp.{dtype})")
    return Text(f"jnp.full({kind.shape}, {number(value, kind.dtype)}, jnp.{dtype})")


def _broadcast(op: mlir.OpView, operands: Sequence[Text]) -> Text:
    (source,), (full,) = operand_types(op), result_types(op)
    dims = mlir.int_array(mlir.attributes(op)["broadcast_dimensions"])
    shaped = axes_text(operands[0], dims, len(full.shape))
    spread = tuple(
        source.shape[dims.index(n)] if n in dims else 1 for n in range(len(full.shape))
    )
    if spread == full.shape:
        return shaped
    return Text(f"jnp.broadcast_to({shaped.text}, {full.shape})")


def axes_text(source: Text, dims: Sequence[int], rank: int) -> Text:
    """`source` with axes of size 1 put in, for NumPy's rules of broadcasting."""
    index = [":" if n in dims else "None" for n in range(rank)]
    if "None" not in index:
        return source
    if not dims:
        return source
    while index and index[0] == "None":
        index.pop(0)
    if "None" not in index:
        return source
    return Text(f"{source.within(8)}[{', '.join(index)}]")


def _reduce(op: mlir.OpView, operands: Sequence[Text]) -> Text:
    inner = op.operation.regions[0].blocks[0].operations[0].operation.name
    name = _REDUCTIONS[inner.removeprefix("stablehlo.")]
    axes = mlir.int_array(mlir.attributes(op)["dimensions"])
    rank = len(operand_types(op)[0].shape)
    kind = result_types(op)[0]
    dtype = f", dtype=jnp.{kind.dtype}" if name == "sum" and not kind.is_float else ""
    if len(axes) == rank:
        return Text(f"jnp.{name}({operands[0].text}{dtype})")
    axis = axes[0] if len(axes) == 1 else tuple(axes)
    return Text(f"jnp.{name}({operands[0].text}, axis={axis}{dtype})")


_REDUCTIONS = {
    "add": "sum",
    "multiply": "prod",
    "maximum": "max",
    "minimum": "min",
    "and": "all",
    "or": "any",
}


def _reshape(op: mlir.OpView, operands: Sequence[Text]) -> Text:
    (kind,) = result_types(op)
    sizes = ", ".join(map(str, kind.shape)) or "()"
    return Text(f"{operands[0].within(8)}.reshape({sizes})")


def _transpose(op: mlir.OpView, operands: Sequence[Text]) -> Text:
    order = tuple(mlir.int_array(mlir.attributes(op)["permutation"]))
    if order == (1, 0):
        return Text(f"{operands[0].within(8)}.T")
    return Text(f"jnp.transpose({operands[0].text}, {order})")


def _slice(op: mlir.OpView, operands: Sequence[Text]) -> Text:
    facts = mlir.attributes(op)
    fields = ("start_indices", "limit_indices", "strides")
    start, limit, stride = (mlir.int_array(facts[field]) for field in fields)
    sizes = operand_types(op)[0].shape
    index = [_span(*bounds) for bounds in zip(start, limit, stride, sizes, strict=True)]
    return Text(f"{operands[0].within(8)}[{', '.join(index)}]")


def _span(start: int, limit: int, stride: int, size: int) -> str:
    first = str(start) if start else ""
    last = str(limit) if limit != size else ""
    return f"{first}:{last}" + (f":{stride}" if stride != 1 else "")


def _pad(op: mlir.OpView, operands: Sequence[Text]) -> Text:
    facts = mlir.attributes(op)
    fields = ("edge_padding_low", "edge_padding_high", "interior_padding")
    config = list(zip(*(mlir.int_array(facts[field]) for field in fields), strict=True))
    return Text(f"lax.pad({operands[0].text}, {operands[1].text}, {config})")


def _concatenate(op: mlir.OpView, operands: Sequence[Text]) -> Text:
    axis = from_attribute(mlir.attributes(op)["dimension"])
    inner = ", ".join(t.text for t in operands)
    return Text(f"jnp.concatenate([{inner}], axis={axis})")


def _iota(op: mlir.OpView, operands: Sequence[Text]) -> Text:
    (kind,) = result_types(op)
    axis = from_attribute(mlir.attributes(op)["iota_dimension"])
    dtype = dtype_text(kind.dtype)
    if len(kind.shape) == 1:
        return Text(f"jnp.arange({kind.shape[0]}, dtype=jnp.{dtype})")
    return Text(f"lax.broadcasted_iota(jnp.{dtype}, {kind.shape}, {axis})")


def _dot(op: mlir.OpView, operands: Sequence[Text]) -> Text:
    contract = mlir.contracting_axes(op)
    numbers = (tuple(map(tuple, contract)), ((), ()))
    left, right = operand_types(op)
    product = f"{operands[0].text}, {operands[1].text}"
    wide = "preferred_element_type=jnp.float32"
    if _is_plain(left, right, contract):
        return Text(f"jnp.matmul({product}, {wide})")
    return Text(f"lax.dot_general({product}, {numbers}, {wide})")


def _is_plain(left: Tensor, right: Tensor, contract: Any) -> bool:
    return len(right.shape) == 2 and contract == ([len(left.shape) - 1], [0])


def _compare(op: mlir.OpView, operands: Sequence[Text]) -> Text:
    return Text(f"{operands[0].within(1)} == {operands[1].within(1)}", 1)


def _add(op: mlir.OpView, operands: Sequence[Text]) -> Text:
    return Text(f"{operands[0].within(5)} + {operands[1].within(6)}", 6)


def _row_sum(op: mlir.OpView, operands: Sequence[Text]) -> Text:
    return Text(f"jnp.sum({operands[0].text}, axis=1, keepdims=True)")


def _combine(op: mlir.OpView, operands: Sequence[Text]) -> Text:
    plan, rows, *gates = (t.text for t in operands)
    text = f"combine({', '.join([rows, plan, *gates])})"
    kind = result_types(op)[0].dtype
    return Text(text if kind == "float32" else f"{text}.astype(jnp.{kind})")


def _collect(op: mlir.OpView, operands: Sequence[Text]) -> Text:
    plan, rows = (t.text for t in operands)
    return Text(f"choice_rows({rows}, {plan})")


_RENDER: dict[str, Render] = {
    "moe.softmax": _call("softmax"),
    "moe.softmax_grad": _call("softmax_grad"),
    "moe.top_k": _call("top_k", "k"),
    "moe.expert_choice": _call("expert_choice", "capacity"),
    "moe.hash": _call("hash_choice", "experts", "k", "seed"),
    "moe.take": _call("take"),
    "moe.put": _call("put", "experts"),
    "moe.count": _call("count", "experts", "groups"),
    "moe.assign": _call("drop_over_capacity"),
    "moe.row_sum": _row_sum,
    "kernel.row_plan": _call("row_plan"),
    "kernel.combine": _combine,
    "kernel.collect": _collect,
    "stablehlo.add": _add,
    "stablehlo.compare": _compare,
    "stablehlo.constant": _constant,
    "stablehlo.broadcast_in_dim": _broadcast,
    "stablehlo.reduce": _reduce,
    "stablehlo.reshape": _reshape,
    "stablehlo.transpose": _transpose,
    "stablehlo.slice": _slice,
    "stablehlo.pad": _pad,
    "stablehlo.concatenate": _concatenate,
    "stablehlo.iota": _iota,
    "stablehlo.dot_general": _dot,
}
