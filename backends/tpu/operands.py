"""The operands of a piece's kernel, in the groups and in the order that it takes them.

Emission writes the call from them, and the legality check counts their memory.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from backends.tpu.piece import Piece
from ir.mlir import Value

Values = tuple[Value, ...]


class RowsOperands(NamedTuple):
    """What `grouped_rows` reads, beside weights."""

    tokens: Values  # tokens that the kernel fetches rows of
    inner: Values  # row spaces for the prologue, as wide as the inner width
    columns: Values  # row spaces for the epilogue, as wide as the products
    numbers: Values  # one number a row
    biases: Values


class SumsOperands(NamedTuple):
    """What `grouped_sums` reads."""

    left_tokens: Values
    left: Values
    right_tokens: Values
    right: Values
    numbers: Values


def rows_operands(piece: Piece, fetches: bool) -> RowsOperands:
    """The groups of a piece of kind "rows"; `fetches` is its schedule's."""
    inner, outer = piece.read_by(piece.lefts), piece.read_by(piece.results)
    tokens, rows = split(piece, piece.wide(inner), fetches)
    return RowsOperands(
        tokens=tokens,
        inner=rows,
        columns=tuple(piece.wide(outer)),
        numbers=_numbers(piece, (*inner, *outer)),
        biases=tuple(a for a in outer if piece.is_weight(a)),
    )


def sums_operands(piece: Piece, fetches: bool) -> SumsOperands:
    """The groups of a piece of kind "sums"; only one side's tokens can be fetched."""
    left, right = (piece.read_by(side) for side in (piece.lefts, piece.rights))
    on_right = any(is_token(piece, v) for v in piece.wide(right))
    return SumsOperands(
        *split(piece, piece.wide(left), fetches and not on_right),
        *split(piece, piece.wide(right), fetches and on_right),
        numbers=_numbers(piece, (*left, *right)),
    )


def split(piece: Piece, rows: Sequence[Value], fetches: bool) -> tuple[Values, Values]:
    """Tokens that the kernel fetches rows of, and row spaces."""
    tokens = tuple(v for v in rows if fetches and is_token(piece, v))
    return tokens, tuple(v for v in rows if v not in tokens)


def is_token(piece: Piece, value: Value) -> bool:
    return piece.arguments[value][0] == "token"


def _numbers(piece: Piece, read: Iterable[Value]) -> Values:
    held = set(read)
    return tuple(piece.numbers([a for a in piece.arguments if a in held]))
