"""A router's block program as a Python function, and the call that runs it.

Rows of a token that are wide lie as they are; what is narrow is turned, so that a
token's numbers are a column: an axis of the IR's block is the other one in the text.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from backends.block_text import (
    BlockText,
    MapTexts,
    argument_name,
    tuple_text,
)
from backends.scalar_text import Text, dtype_text, op_text
from ir import mlir
from ir.mlir import Value
from ir.op import attributes_of, operand_types, result_types
from ir.router_sizes import width_of
from ir.types import Tensor, from_mlir

_THIN = ("kernel.broadcast", "kernel.spread", "moe.map", "kernel.columns")
_CALLS = {
    "moe.softmax": "column_softmax({0})",
    "moe.softmax_grad": "column_softmax_grad({0}, {1})",
    "moe.top_k": "column_top_k({0}, {k})",
    "moe.take": "column_take({0}, {1})",
    "moe.put": "column_put({0}, {1}, {experts})",
    "kernel.count": "column_count({0}, {experts})",
    "kernel.row_sum": "jnp.sum({0}, axis=0, keepdims=True)",
    "kernel.columns": "{0}[{start}:{limit}]",
}
_REDUCTIONS = {
    "add": "sum",
    "multiply": "prod",
    "maximum": "max",
    "minimum": "min",
    "and": "all",
    "or": "any",
}


@dataclass
class Sides:
    """What a program reads or makes, part by part, as `Routed` and `Made` hold it."""

    rows: list[str] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    vectors: list[str] = field(default_factory=list)
    sums: list[str] = field(default_factory=list)
    weights: list[str] = field(default_factory=list)

    def text(self, name: str) -> str:
        """A call of `Routed` or `Made` with the parts that are not empty."""
        parts = (
            f"{part}={tuple_text(texts)}" for part, texts in vars(self).items() if texts
        )
        return f"{name}({', '.join(parts)})"

    def part(self, name: str) -> list[str]:
        found: list[str] = getattr(self, name)
        return found


class RouterText(BlockText):
    """Writes a router's block program over a tile of tokens."""

    def __init__(self, op: mlir.OpView, map_texts: MapTexts) -> None:
        super().__init__(op, map_texts)
        told = attributes_of(op)
        self.narrow: list[int] = told["narrow"]
        self.tile: int = told["schedule"]["tile_tokens"]
        self.names.reserved |= {"left", "given"}
        self.wide_refs: set[Value] = set()

    def function(self) -> list[str]:
        """`def @(left, given)`: from what a tile reads to what it makes."""
        self.unpack()
        for now, op in enumerate(self.ops[:-1]):
            self.statement(op, now)
        made = Sides()
        for part, value in zip(
            result_parts(self.op), self.ops[-1].operation.operands, strict=True
        ):
            made.part(part).append(self.values[value].text)
        lines = (*self.lines, f"return {made.text('Made')}")
        return [
            "def @(left: Any, given: Routed) -> Made:",
            *(f"    {x}" for x in lines),
        ]

    def unpack(self) -> None:
        """Name what the program reads, part by part."""
        read: dict[str, list[str]] = {}
        for argument, part, outer in zip(
            self.block.arguments,
            operand_parts(self.op),
            self.op.operation.operands,
            strict=True,
        ):
            kind = {"rows": "token", "weights": "weight"}.get(part, "choice")
            name = self.names.give(argument_name(outer, kind), 1 << 30, 0)
            self.values[argument] = Text(name)
            read.setdefault(part, []).append(name)
            if part == "rows":
                self.wide_refs.add(argument)
        for part, names in read.items():
            left = tuple_text(names) if len(names) == 1 else ", ".join(names)
            self.lines.append(f"{left} = given.{part}")

    def statement(self, op: mlir.OpView, now: int) -> None:
        """An op; elementwise ones read wide rows out of their references."""
        if op.operation.name not in ("moe.map", "stablehlo.compare"):
            super().statement(op, now)
            return
        held = {v: self.values[v] for v in op.operation.operands}
        for value in held.keys() & self.wide_refs:
            self.values[value] = Text(f"{held[value].text}[...]")
        super().statement(op, now)
        self.values.update(held)

    def text(self, op: mlir.OpView, operands: list[Text]) -> Text:
        name, told = op.operation.name, attributes_of(op)
        match name:
            case "kernel.dot":
                return self.product(op)
            case "kernel.outer":
                return self.outer(op)
            case "kernel.sum" | "kernel.broadcast" | "kernel.spread":
                return operands[0]
            case "stablehlo.constant" | "stablehlo.compare":
                return op_text(op, operands)
            case "stablehlo.concatenate":
                parts = ", ".join(self.full(v) for v in op.operation.operands)
                return Text(f"stacked([{parts}])")
        full = [self.full(v) for v in op.operation.operands]
        if name == "kernel.row_reduce":
            function = _REDUCTIONS[told["by"]]
            return Text(f"jnp.{function}({full[0]}, axis=0, keepdims=True)")
        return Text(_CALLS[name].format(*full, **told))

    def is_narrow(self, value: Value) -> bool:
        return from_mlir(value.type).shape[1] in self.narrow

    def full(self, value: Value) -> str:
        """Narrow values with all their columns and tokens, if they may have less."""
        text = self.values[value].text
        if not self.is_thin(value):
            return text
        return (
            f"jnp.broadcast_to({text}, {(width_of(from_mlir(value.type)), self.tile)})"
        )

    def is_thin(self, value: Value) -> bool:
        """Whether a value may be held with fewer columns, or for fewer tokens."""
        made = mlir.producer(value)
        if made is None or made.name not in _THIN:
            return False
        if made.name in ("kernel.broadcast", "kernel.spread"):
            return True
        return all(self.is_thin(operand) for operand in made.operands)

    def product(self, op: mlir.OpView) -> Text:
        """A token's numbers by a matrix, which lies with its narrow axis first."""
        rows, weights = op.operation.operands
        held, full = self.values[weights].text, self.full(rows)
        if is_turned(op, self.narrow) != operand_turned(weights, self.narrow):
            held = f"{held}[...].T"  # another product has it the other way
        if not self.is_narrow(rows):
            return Text(f"to_columns({self.values[rows].text}, {held})")
        if self.is_narrow(op.operation.results[0]):
            return Text(f"exact_dot({held}[...], {full}, 0)")
        return Text(f"to_rows({full}, {held})")

    def outer(self, op: mlir.OpView) -> Text:
        """A sum over tokens: [narrow, wide], whichever comes first in the IR."""
        a, b = op.operation.operands
        if self.is_narrow(a) and self.is_narrow(b):
            return Text(f"exact_dot({self.own(a)}, {self.own(b)}, 1)")
        columns, rows = (a, b) if self.is_narrow(a) else (b, a)
        return Text(f"to_weights({self.own(columns)}, {self.own(rows)})")

    def own(self, value: Value) -> str:
        """The values of the tile's own tokens."""
        if self.is_narrow(value):
            return f"own_tokens({self.full(value)}, left, 1)"
        text = self.values[value].text
        read = f"{text}[...]" if value in self.wide_refs else text
        return f"own_tokens({read}, left, 0)"


def is_turned(dot: mlir.OpView, narrow: Sequence[int]) -> bool:
    """Whether a product wants its matrix turned: narrow axis first, or result first."""
    rows, result = dot.operation.operands[0], dot.operation.results[0]
    from_wide = width_of(from_mlir(rows.type)) not in narrow
    to_wide = width_of(from_mlir(result.type)) not in narrow
    transposed: bool = attributes_of(dot)["transposed"]
    return transposed if to_wide and not from_wide else not transposed


def operand_turned(argument: Value, narrow: Sequence[int]) -> bool:
    """Whether a program reads a matrix turned: as its first product wants it."""
    (first, *_) = [mlir.user(use) for use in argument.uses]
    return is_turned(first, narrow)


def routed_text(op: mlir.OpView, operands: Sequence[str]) -> str:
    """What the program reads: a call of `Routed`."""
    narrow = attributes_of(op)["narrow"]
    arguments = op.operation.regions[0].blocks[0].arguments
    read = Sides()
    for argument, part, text in zip(
        arguments, operand_parts(op), operands, strict=True
    ):
        turned = part == "weights" and operand_turned(argument, narrow)
        read.part(part).append(f"{text}.T" if turned else text)
    return read.text("Routed")


def made_text(op: mlir.OpView) -> str:
    """What the program makes: a call of `Made`."""
    made = Sides()
    for part, tensor in zip(result_parts(op), result_types(op), strict=True):
        width: Any = tensor.shape[-1]
        if part == "weights":
            width = (
                tuple(reversed(tensor.shape))
                if sum_turned(op, tensor)
                else tensor.shape
            )
        made.part(part).append(f"({width}, jnp.{dtype_text(tensor.dtype)})")
    return made.text("Made")


def sum_turned(op: mlir.OpView, tensor: Tensor) -> bool:
    """Whether a sum of products is made with its last axis first: the narrow one."""
    narrow = attributes_of(op)["narrow"]
    return tensor.shape[0] not in narrow and tensor.shape[1] in narrow


def operand_parts(op: mlir.OpView) -> list[str]:
    """In which part of `Routed` each operand is."""
    told = attributes_of(op)
    arguments = op.operation.regions[0].blocks[0].arguments
    facts = zip(told["operands"], operand_types(op), arguments, strict=True)
    return [
        "weights"
        if kind == "whole" and _is_multiplied(argument)
        else "vectors"
        if kind == "whole"
        else _part(kind, tensor, told["narrow"])
        for kind, tensor, argument in facts
    ]


def result_parts(op: mlir.OpView) -> list[str]:
    """In which part of `Made` each result is."""
    told = attributes_of(op)
    return [
        ("weights" if len(tensor.shape) == 2 else "sums")
        if kind == "sum"
        else _part(kind, tensor, told["narrow"])
        for kind, tensor in zip(told["results"], result_types(op), strict=True)
    ]


def results_by_part(op: mlir.OpView) -> dict[str, list[Value]]:
    """The results in each part of `Made`."""
    found: dict[str, list[Value]] = {}
    for part, value in zip(result_parts(op), op.operation.results, strict=True):
        found.setdefault(part, []).append(value)
    return found


def _is_multiplied(argument: Value) -> bool:
    users = [mlir.user(use).operation.name for use in argument.uses]
    return "kernel.dot" in users


def _part(kind: str, tensor: Tensor, narrow: Sequence[int]) -> str:
    if kind == "group":
        return "groups"
    return "columns" if width_of(tensor) in narrow else "rows"
