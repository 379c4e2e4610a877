"""Put a TPU's default schedule on the kernel ops of a module."""

from backends.chips import CHIPS, Chip
from backends.emission import grouped_matmuls
from backends.tpu.piece import Piece, take_apart, width
from backends.tpu.schedule import Blocks, largest_blocks, tile_rows, vmem_limit
from ir import mlir
from ir.mlir import Value
from ir.op import attributes_of, result_types
from ir.types import Tensor, from_mlir, to_attribute

_BYTES = {"float64": 8, "float32": 4, "int32": 4, "bfloat16": 2, "float16": 2}
_BUFFERS = 2  # while one block is worked on, the next one is fetched


def schedule_module(module: mlir.Module, chip: str) -> None:
    """Set `schedule` on each grouped matmul, from its shapes and the chip."""
    for op in grouped_matmuls(module):
        told = attributes_of(op)
        rows = tile_rows(told["rows"], told["experts"])
        piece = take_apart(op)
        blocks = _blocks(op, piece, rows, CHIPS[chip]) if piece.products else (1, 1)
        fields = {"tile_rows": rows, "blocks": list(blocks)}
        op.operation.attributes["schedule"] = to_attribute(fields)


def _blocks(op: mlir.OpView, piece: Piece, rows: int, chip: Chip) -> Blocks:
    limit = vmem_limit(chip)
    if piece.kind == "sums":
        return _sum_blocks(op, piece, rows, limit)
    inner = piece.wide(piece.read_by(piece.lefts))
    columns = piece.wide(piece.read_by(piece.results))
    left = from_mlir(piece.lefts[0].type).shape[1]
    made = sum(_size(kind) for kind in result_types(op))
    per_inner = _BUFFERS * rows * _sizes(inner) + rows * 4 * len(piece.products)
    # Sums, and about as many float32 values of the epilogue.
    per_column = _BUFFERS * rows * (_sizes(columns) + made)
    per_column += 3 * rows * 4 * len(piece.products)
    per_weight = _BUFFERS * _sizes(list(piece.rights))
    costs = [(per_inner, per_column, per_weight)]
    return largest_blocks((left, width(piece.sums[0])), costs, limit)


def _sum_blocks(op: mlir.OpView, piece: Piece, rows: int, limit: int) -> Blocks:
    (kind,) = result_types(op)
    sides = [
        _BUFFERS * rows * _sizes(piece.wide(piece.read_by([v]))) + 2 * rows * 4
        for v in (*piece.lefts, *piece.rights)
    ]
    costs = [(sides[0], sides[1], 4 + 4 + _BUFFERS * _size(kind))]
    return largest_blocks(kind.shape[1:], costs, limit)


def _sizes(values: list[Value]) -> int:
    """Bytes of one element of each."""
    return sum(_size(from_mlir(v.type)) for v in values)


def _size(kind: Tensor) -> int:
    return _BYTES[kind.dtype]
