"""What a piece of an expert's chain is, for the TPU's kernels: parts of its program."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from ir import mlir
from ir.errors import UnsupportedByTarget
from ir.mlir import Value
from ir.op import attributes_of
from ir.types import from_mlir

Kind = Literal["rows", "sums", "maps"]


@dataclass(frozen=True)
class Piece:
    """A block program with one layer of products, taken apart.

    Of kind "rows" it has products of rows and weights (`products`), "sums" one gradient
    of weights, "maps" none of both. Values are those of the block; `arguments` maps the
    block's arguments to the op's operands.
    """

    kind: Kind
    products: tuple[mlir.OpView, ...]
    results: tuple[Value, ...]
    arguments: dict[Value, tuple[str, Value]]

    @property
    def lefts(self) -> tuple[Value, ...]:
        return tuple(op.operation.operands[0] for op in self.products)

    @property
    def rights(self) -> tuple[Value, ...]:
        return tuple(op.operation.operands[1] for op in self.products)

    @property
    def sums(self) -> tuple[Value, ...]:
        """The products' results."""
        return tuple(op.operation.results[0] for op in self.products)

    @property
    def joined(self) -> Value | None:
        """The sum of two products that nothing else reads: they add up as one."""
        uses = [use for value in self.sums for use in value.uses]
        readers = [mlir.user(use).operation for use in uses]
        if len(self.sums) != 2 or len(readers) != 2 or readers[0] != readers[1]:
            return None
        return readers[0].results[0] if _adds(readers[0]) else None

    @property
    def transposed(self) -> tuple[bool, ...]:
        return tuple(bool(attributes_of(op)["transposed"]) for op in self.products)

    def read_by(self, values: Iterable[Value]) -> list[Value]:
        """The arguments that values are made of, products' results apart."""
        stops, found, seen = set(self.sums), dict[Value, None](), set[Value]()
        waiting = [v for v in values if v not in stops]
        while waiting:
            value = waiting.pop()
            if value in seen:
                continue
            seen.add(value)
            producer = mlir.producer(value)
            if producer is None:
                found[value] = None
                continue
            waiting.extend(v for v in producer.operands if v not in stops)
        return [argument for argument in self.arguments if argument in found]

    def wide(self, arguments: Iterable[Value]) -> list[Value]:
        """Those that are rows of more than one number."""
        return [a for a in arguments if not self.is_weight(a) and width(a) > 1]

    def numbers(self, arguments: Iterable[Value]) -> list[Value]:
        """Those that are one number a row."""
        return [a for a in arguments if not self.is_weight(a) and width(a) == 1]

    def is_weight(self, argument: Value) -> bool:
        return self.arguments[argument][0] == "weight"


def _adds(op: mlir.Operation) -> bool:
    """Whether an op is a map that adds its two operands, and does nothing else."""
    if op.name != "moe.map" or len(op.operands) != 2:
        return False
    first, *others = op.regions[0].blocks[0].operations
    return first.operation.name == "stablehlo.add" and len(others) == 1


def take_apart(op: mlir.OpView) -> Piece:
    """The piece that a grouped matmul is; raises `UnsupportedByTarget` for others."""
    block = op.operation.regions[0].blocks[0]
    *ops, last = list(block.operations)
    dots = tuple(o for o in ops if o.operation.name == "kernel.dot")
    outers = tuple(o for o in ops if o.operation.name == "kernel.outer")
    if any(o.operation.name == "kernel.sum" for o in ops):
        _refuse("the gradient of an expert's bias", "no kernel sums rows alone yet")
    if outers and (dots or len(outers) > 1):
        _refuse("a block program with several kinds of products", "run `cut` first")
    kind: Kind = "rows" if dots else "sums" if outers else "maps"
    operands = list(op.operation.operands)[1:]
    pairs = zip(attributes_of(op)["operands"], operands, strict=True)
    arguments = dict(zip(block.arguments, pairs, strict=True))
    piece = Piece(kind, dots or outers, tuple(last.operation.operands), arguments)
    _check(piece)
    return piece


def _check(piece: Piece) -> None:
    """The epilogue's rows must be as wide as the products' results."""
    if piece.kind != "rows":
        return
    columns = piece.wide(piece.read_by(piece.results))
    expected = width(piece.sums[0])
    if any(width(c) != expected for c in columns):
        widths = sorted({width(c) for c in columns} | {expected})
        _refuse(f"rows of widths {widths} in one step", "its kernel has one width")


def _refuse(what: str, reason: str) -> None:
    raise UnsupportedByTarget(target="the TPU", what=what, reason=reason)


def width(value: Value) -> int:
    return int(from_mlir(value.type).shape[-1])
