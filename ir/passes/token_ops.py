"""What an op means for tokens: work on each token's own numbers, a sum over them, ...

A value is a *token value* if its first axis runs over the tokens. It is *narrow* if a
token has one number of it, or one for each expert or choice.
"""

from collections.abc import Callable
from typing import Literal

from ir import mlir
from ir.build import neutral
from ir.mlir import Value
from ir.op import attributes_of
from ir.types import from_attribute, from_mlir

MOST_CHOICES = 16  # a block program takes a token's choices one after the other
CHOOSING = {
    "moe.softmax",
    "moe.softmax_grad",
    "moe.top_k",
    "moe.expert_choice",
    "moe.take",
    "moe.put",
    "moe.count",
}
ELEMENTWISE = {"moe.map", "stablehlo.compare"}

# What a block program makes of an op: "own", from narrow to narrow; "spread", the same
# for all tokens of a group; "product", of a token's numbers by a matrix; "outer", the
# sum over tokens of products; "sum", a sum over tokens; "", nothing.
Role = Literal["own", "spread", "product", "outer", "sum", ""]


class TokenOps:
    """The token values of a function, and what its ops mean for them."""

    def __init__(self, block: mlir.Block) -> None:
        self.tokens: set[Value] = set()
        self.widths = {1}
        ops = list(block.operations)
        for op in ops:
            if op.operation.name in CHOOSING:
                self._begin(op)
        known = -1
        while len(self.tokens) > known:  # until no op tells of more
            known = len(self.tokens)
            for op in (*ops, *reversed(ops)):
                aligned = aligned_values(op)
                if any(value in self.tokens for value in aligned):
                    self.tokens.update(aligned)

    def _begin(self, op: mlir.OpView) -> None:
        results = [] if op.operation.name == "moe.count" else op.operation.results
        for value in (*op.operation.operands, *results):
            if len(shape_of(value)) == 2:
                self.tokens.add(value)
                self.widths.add(shape_of(value)[1])

    def is_narrow(self, value: Value) -> bool:
        return value in self.tokens and width_of(value) in self.widths

    def role(self, op: mlir.OpView) -> Role:
        """What a block program makes of an op."""
        name = op.operation.name
        if name in CHOOSING and not _few_choices(op):
            return ""
        if name == "moe.count" or self.summed(op) is not None:
            return "sum"
        if name == "stablehlo.dot_general":
            return self._product(op)
        if self.spread(op) is not None:
            return "spread"
        held = aligned_values(op)
        return "own" if held and all(map(self.is_narrow, held)) else ""

    def _product(self, op: mlir.OpView) -> Role:
        left, right = op.operation.operands
        if left not in self.tokens or len(shape_of(left)) != len(shape_of(right)):
            return ""
        axes, _ = mlir.contracting_axes(op)
        if axes == [0]:
            thin = self.is_narrow(left) or self.is_narrow(right)
            return "outer" if thin and right in self.tokens else ""
        thin = self.is_narrow(left) or self.is_narrow(op.operation.results[0])
        return "product" if thin and right not in self.tokens else ""

    def summed(self, op: mlir.OpView) -> Value | None:
        """The narrow values that an op adds up over tokens; None if it does not."""
        if op.operation.name == "moe.count":
            return op.operation.operands[0]
        if op.operation.name != "stablehlo.reduce" or reduction(op) != "add":
            return None
        source, axes = op.operation.operands[0], _axes(op, "dimensions")
        if self.is_narrow(source):
            return source if axes in ([0], [0, 1]) else None
        producer = mlir.producer(source)
        if axes != [1] or producer is None or producer.name != "stablehlo.reshape":
            return None
        inner, (groups, size, *rest) = producer.operands[0], shape_of(source)
        whole = shape_of(inner) == (groups * size, *rest)
        return inner if whole and self.is_narrow(inner) else None

    def spread(self, op: mlir.OpView) -> tuple[str, Value] | None:
        """What an op gives to all tokens alike: ("whole" or "group", the value)."""
        operands, results = list(op.operation.operands), list(op.operation.results)
        if not results or not self.is_narrow(results[0]):
            return None
        if op.operation.name == "stablehlo.broadcast_in_dim":
            return None if operands[0] in self.tokens else ("whole", operands[0])
        producer = mlir.producer(operands[0]) if operands else None
        if op.operation.name != "stablehlo.reshape" or producer is None:
            return None
        if producer.name != "stablehlo.broadcast_in_dim":
            return None
        (source,), shape = producer.operands, shape_of(operands[0])
        by_group = _axes(producer, "broadcast_dimensions") == [0, 2]
        fits = by_group and shape_of(source) == (shape[0], shape[2])
        return ("group", source) if fits and len(shape_of(results[0])) == 2 else None


def shape_of(value: Value) -> tuple[int, ...]:
    return from_mlir(value.type).shape


def width_of(value: Value) -> int:
    """How many numbers of a token value each token has."""
    shape = shape_of(value)
    return shape[1] if len(shape) == 2 else 1


def groups_of(op: mlir.OpView) -> int:
    """In how many groups of tokens a sum is split; 0 for one over all of them."""
    if op.operation.name == "moe.count":
        return int(attributes_of(op)["groups"])
    grouped = _axes(op, "dimensions") == [1]
    return shape_of(op.operation.operands[0])[0] if grouped else 0


def reduction(op: mlir.OpView | mlir.Operation) -> str:
    """What a stablehlo.reduce reduces by; "" if it does not begin with nothing."""
    source, start = op.operation.operands
    inner = op.operation.regions[0].blocks[0].operations[0].operation.name
    by: str = inner.removeprefix("stablehlo.")
    producer = mlir.producer(start)
    if producer is None or producer.name != "stablehlo.constant":
        return ""
    begins = from_attribute(producer.attributes["value"])
    return by if begins == neutral(by, from_mlir(source.type)) else ""


def aligned_values(op: mlir.OpView) -> list[Value]:
    """Operands and results of an op whose first axes are one and the same axis."""
    operands, results = list(op.operation.operands), list(op.operation.results)
    if op.operation.name in ELEMENTWISE | CHOOSING - {"moe.count"}:
        return [*operands, *results]
    if op.operation.name == "stablehlo.dot_general":
        return _dot(op, operands, results)
    rule = _ALIGNED.get(op.operation.name)
    count = rule(op) if rule else 0
    return [*operands[:count], *results] if count else []


def _axes(op: mlir.OpView | mlir.Operation, name: str) -> list[int]:
    return mlir.int_array(op.operation.attributes[name])


def _shapes(op: mlir.OpView) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return shape_of(op.operation.operands[0]), shape_of(op.operation.results[0])


def _few_choices(op: mlir.OpView) -> bool:
    choices = [
        shape_of(value)[1]
        for value in (*op.operation.operands, *op.operation.results)
        if from_mlir(value.type).dtype == "int32" and len(shape_of(value)) == 2
    ]
    known = {"moe.count": choices[:1]}.get(op.operation.name, choices)
    return op.operation.name != "moe.expert_choice" and all(
        n <= MOST_CHOICES for n in known
    )


def _broadcast(op: mlir.OpView) -> int:
    source, full = _shapes(op)
    leading = _axes(op, "broadcast_dimensions")[:1] == [0]
    return int(leading and len(full) <= 2 and source[0] == full[0])


def _reduce(op: mlir.OpView) -> int:
    flat = len(_shapes(op)[0]) == 2 and _axes(op, "dimensions") == [1]
    return int(flat and bool(reduction(op)))


def _reshape(op: mlir.OpView) -> int:
    source, full = (s[:1] if s[1:] == (1,) else s for s in _shapes(op))
    return int(source == full and 0 < len(source) <= 2)


def _slice(op: mlir.OpView) -> int:
    source, full = _shapes(op)
    whole = len(source) == 2 and source[0] == full[0]
    return int(whole and set(_axes(op, "strides")) == {1})


def _concatenate(op: mlir.OpView) -> int:
    axis = from_attribute(op.operation.attributes["dimension"])
    return len(op.operation.operands) if axis == 1 else 0


def _dot(op: mlir.OpView, operands: list[Value], results: list[Value]) -> list[Value]:
    axes = mlir.contracting_axes(op)
    if {len(shape_of(value)) for value in operands} != {2}:
        return []
    if axes == ([0], [0]):
        return operands
    return [operands[0], *results] if axes[0] == [1] else []


_ALIGNED: dict[str, Callable[[mlir.OpView], int]] = {
    "moe.row_sum": lambda op: 1,
    "stablehlo.broadcast_in_dim": _broadcast,
    "stablehlo.reduce": _reduce,
    "stablehlo.reshape": _reshape,
    "stablehlo.slice": _slice,
    "stablehlo.concatenate": _concatenate,
}
