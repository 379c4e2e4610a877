"""What a compiled layer asks of a machine, counted from shapes: estimates, all of it.

Counted are the kernel ops and the dense products; routing's elementwise ops are left
out. FLOPs are those of products over the rows that the row plan has room for. Bytes are
the least that could move: each operand read once, each result written once, weights of
no more experts than there are rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from backends.estimate import Estimate
from backends.targets import Target, find_target
from ir import mlir
from ir.op import attributes_of, operand_types, place_of, result_types
from ir.types import Tensor, from_mlir

ESTIMATED = "estimated"
_WIDTHS = {
    "float64": 8,
    "int64": 8,
    "float32": 4,
    "int32": 4,
    "uint32": 4,
    "bfloat16": 2,
    "float16": 2,
    "int8": 1,
    "float8_e4m3fn": 1,
    "bool": 1,
}


@dataclass(frozen=True)
class KernelRow:
    """One kernel op: where it stands, what it needs at least, how we know.

    `rows` is the room of the row plan, `experts` how many experts share it; both are
    None for a dense product. `line` is the user's line that the op came from. For a
    chip whose figures are known, `estimate` is what the kernel does there.
    """

    function: str
    op: str
    line: str
    flops: int
    bytes_read: int
    bytes_written: int
    rows: int | None
    experts: int | None
    schedule: dict[str, Any]
    how: str = ESTIMATED
    estimate: Estimate | None = None


def report(module: mlir.Module, target: str) -> list[KernelRow]:
    """The kernel ops of every function of a module scheduled for a target, in order."""
    chosen = find_target(target)
    known = chosen.estimates(module)
    return [
        _row(name, kernel, chosen, known)
        for name, function in mlir.functions(module).items()
        for kernel in mlir.entry(function).operations
        if kernel.operation.name in _COUNTERS
    ]


def _row(
    function: str, op: mlir.OpView, target: Target, known: Mapping[int, Estimate]
) -> KernelRow:
    name = op.operation.name
    flops, read = _COUNTERS[name](op)
    # A dense product's attributes are MLIR's own; ours are plain values.
    told = attributes_of(op) if name.startswith("kernel.") else {}
    place = place_of(op)
    written = sum(map(_bytes, result_types(op)))
    estimate = known.get(hash(op.operation)) or target.plain_estimate(
        f"{function}.{name.split('.')[1]}",
        flops,
        read + written,
        operand_types(op)[0].dtype,
    )
    return KernelRow(
        function=function,
        op=name,
        line=str(place) if place else "",
        flops=flops,
        bytes_read=read,
        bytes_written=written,
        rows=told.get("rows") or _rows_of_operand(name, op),
        experts=told.get("experts"),
        schedule=told.get("schedule", {}),
        estimate=estimate,
    )


def _rows_of_operand(name: str, op: mlir.OpView) -> int | None:
    if name in ("kernel.combine", "kernel.collect"):
        return operand_types(op)[1].shape[0]
    return None


def _grouped_matmul(op: mlir.OpView) -> tuple[int, int]:
    told = attributes_of(op)
    rows, experts = told["rows"], told["experts"]
    body = op.operation.regions[0].blocks[0].operations
    flops = sum(_block_flops(inner, rows) for inner in body)
    plan, *operands = operand_types(op)
    pairs = zip(told["operands"], operands, strict=True)
    read = sum(_fetched(kind, tensor, rows, experts) for kind, tensor in pairs)
    return flops, _bytes(plan) + read


def _block_flops(op: mlir.OpView, rows: int) -> int:
    """The FLOPs of a product inside a block program, over all rows."""
    name = op.operation.name
    if name not in ("kernel.dot", "kernel.outer", "kernel.row_dot"):
        return 0
    first, second = operand_types(op)
    if name == "kernel.dot":
        return 2 * rows * prod(second.shape)
    if name == "kernel.outer":
        return 2 * rows * first.shape[1] * second.shape[1]
    return 2 * rows * first.shape[1]


def _fetched(kind: str, tensor: Tensor, rows: int, experts: int) -> int:
    """The least bytes of an operand that rows can do with."""
    if kind == "weight":
        return _bytes(tensor) // experts * min(experts, rows)
    if kind == "token":
        return _bytes(tensor) // tensor.shape[0] * min(tensor.shape[0], rows)
    return _bytes(tensor)


def _combine(op: mlir.OpView) -> tuple[int, int]:
    """A gate and an addition for every element of a row, or the addition alone."""
    _, rows, *gates = operand_types(op)
    return prod(rows.shape) * (2 if gates else 1), _read(op)


def _moves(op: mlir.OpView) -> tuple[int, int]:
    return 0, _read(op)


def _dense(op: mlir.OpView) -> tuple[int, int]:
    left, _ = operand_types(op)
    axes, _ = mlir.contracting_axes(op)
    summed = prod(left.shape[axis] for axis in axes)
    return 2 * prod(from_mlir(op.operation.results[0].type).shape) * summed, _read(op)


def _router(op: mlir.OpView) -> tuple[int, int]:
    """Its products; the work on each token's own numbers is left out."""
    tokens = attributes_of(op)["tokens"]
    body = op.operation.regions[0].blocks[0].operations
    return sum(_block_flops(inner, tokens) for inner in body), _read(op)


_COUNTERS = {
    "kernel.router": _router,
    "kernel.row_plan": _moves,
    "kernel.grouped_matmul": _grouped_matmul,
    "kernel.combine": _combine,
    "kernel.collect": _moves,
    "stablehlo.dot_general": _dense,
}


def _read(op: mlir.OpView) -> int:
    return sum(map(_bytes, operand_types(op)))


def _bytes(tensor: Tensor) -> int:
    return prod(tensor.shape) * _WIDTHS[tensor.dtype]


@dataclass(frozen=True)
class Total:
    """The sums over one function's kernels; the last three where each is estimated."""

    function: str
    kernels: int
    flops: int
    bytes_read: int
    bytes_written: int
    how: str = ESTIMATED
    flops_done: int | None = None
    hbm_bytes: int | None = None
    seconds: float | None = None


def totals(rows: Sequence[KernelRow]) -> list[Total]:
    """One total a function, in the order of the functions."""
    names = dict.fromkeys(row.function for row in rows)
    return [_total(n, [row for row in rows if row.function == n]) for n in names]


def _total(function: str, rows: Sequence[KernelRow]) -> Total:
    total = Total(
        function,
        len(rows),
        sum(row.flops for row in rows),
        sum(row.bytes_read for row in rows),
        sum(row.bytes_written for row in rows),
    )
    known = [row.estimate for row in rows if row.estimate]
    if len(known) < len(rows):
        return total
    return replace(
        total,
        flops_done=sum(estimate.flops for estimate in known),
        hbm_bytes=sum(estimate.hbm_bytes for estimate in known),
        seconds=sum(estimate.seconds for estimate in known),
    )
