"""What the kernel of a piece does, in numbers, for the model of its time."""

from backends.tpu.operands import rows_operands
from backends.tpu.piece import Piece, width
from backends.tpu.schedule import LANES, Work
from backends.tpu.storage import BYTES, is_combined, stored_bytes, stored_dtype
from ir import mlir
from ir.mlir import Value
from ir.narrow import is_narrow
from ir.op import attributes_of, result_types
from ir.types import from_mlir


def work_of(op: mlir.OpView, piece: Piece, compute: str) -> Work:
    """What a piece's kernel does, in numbers."""
    told = attributes_of(op)
    size = 4 if compute == "float32" else 2

    def element(values: list[Value], tokens: bool) -> int:
        chosen = [v for v in values if (piece.arguments[v][0] == "token") == tokens]
        return sum(stored_bytes(from_mlir(v.type), compute) for v in chosen)

    if piece.kind == "sums":
        sides = [piece.wide(piece.read_by([v])) for v in (*piece.lefts, *piece.rights)]
        held = [element(side, tokens=True) for side in sides]
        (kind,) = result_types(op)
        _, first, second = kind.shape
        return Work(
            "sums",
            told["rows"],
            told["experts"],
            first,
            second,
            products=1,
            operand_bytes=size,
            tokens=sum(held),
            inner=element(sides[0], tokens=False),
            columns=element(sides[1], tokens=False),
            results=stored_bytes(kind, kind.dtype),
            token_side=1 if held[1] else 0,
        )
    inner = piece.wide(piece.read_by(piece.lefts))
    columns = piece.wide(piece.read_by(piece.results))
    biases = rows_operands(piece, fetches=False).biases
    wide = [kind for kind in result_types(op) if kind.shape[-1] > 1]
    made = [stored_dtype(kind, compute) for kind in wide]
    return Work(
        "rows",
        told["rows"],
        told["experts"],
        from_mlir(piece.lefts[0].type).shape[1],
        width(piece.sums[0]),
        products=len(piece.products),
        operand_bytes=size,
        tokens=element(inner, tokens=True),
        inner=element(inner, tokens=False),
        columns=element(columns, tokens=True) + element(columns, tokens=False),
        results=sum(2 if dtype == "bfloat16" else 4 for dtype in made),
        packed=packs(op, compute),
        biases=sum(BYTES[from_mlir(bias.type).dtype] for bias in biases),
        narrow=is_narrow(from_mlir(piece.rights[0].type).dtype),
    )


def packs(op: mlir.OpView, compute: str) -> bool:
    """Whether a result leaves as words: only the kernel that combines reads it."""
    return compute == "bfloat16" and any(
        is_combined(result) and width(result) % (2 * LANES) == 0
        for result in op.operation.results
    )
