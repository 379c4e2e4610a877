"""A function of the final module as Python statements."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

from backends.naming import Names, wanted_name
from backends.op_text import axes_text, expression_of
from backends.scalar_text import Text, expression, scalar_ops, statements, unpacked
from ir import mlir
from ir.op import attributes_of, operand_types, result_types
from ir.types import from_attribute

_LONGEST_INLINE = 56
_LARGEST_INLINE = 3


@dataclass
class Definitions:
    """Functions that the statements call: activations and block programs, by text."""

    names: Names
    by_text: dict[str, str] = field(default_factory=dict)
    texts: list[str] = field(default_factory=list)

    def add(self, wanted: str, render: "Sequence[str]") -> str:
        """Define a function whose text is render with '@' for its name; its name."""
        template = "\n".join(render)
        if template not in self.by_text:
            name = self.names.give(wanted, 1 << 30, 0)
            self.by_text[template] = name
            self.texts.append(template.replace("@", name, 1))
        return self.by_text[template]


def map_texts(
    op: mlir.OpView, operands: Sequence[Text], definitions: Definitions
) -> list[Text]:
    """The results of a `moe.map`: inline if it is short, else a call of a function."""
    region = op.operation.regions[0]
    block = region.blocks[0]
    uses = [len(list(a.uses)) for a in block.arguments]
    cheap = all(
        n <= 1 or t.text.isidentifier() for n, t in zip(uses, operands, strict=True)
    )
    if cheap and scalar_ops(region) <= _LARGEST_INLINE:
        return expression(region, list(operands))
    names = (
        ["x", "y", "z"]
        if len(operands) <= 3
        else [f"x{i}" for i in range(len(operands))]
    )
    names = names[: len(operands)]
    lines, results = statements(region, names)
    arguments = ", ".join(f"{n}: jax.Array" for n in names)
    many = len(results) > 1
    kind = "tuple[jax.Array, ...]" if many else "jax.Array"
    body = [f"    {line}" for line in lines]
    body.append(f"    return {', '.join(t.text for t in results)}")
    name = attributes_of(op)["name"]
    function = definitions.add(name, [f"def @({arguments}) -> {kind}:", *body])
    call = f"{function}({', '.join(t.text for t in operands)})"
    if many:
        return [Text(f"{call}[{i}]") for i in range(len(results))]
    return [Text(call)]


class FunctionText(ABC):
    """Writes one function of the module."""

    def __init__(self, function: mlir.OpView, definitions: Definitions) -> None:
        self.function = function
        self.block = mlir.entry(function)
        self.definitions = definitions
        self.ops = list(self.block.operations)
        self.position = {id_of(op): i for i, op in enumerate(self.ops)}
        taken = definitions.names.reserved | set(definitions.names.holders)
        self.names = Names(taken)
        self.values: dict[mlir.Value, Text] = {}
        self.lines: list[str] = []
        self.reported = _reported(function)

    def run(self) -> tuple[list[str], list[str]]:
        """Names of the arguments, and the statements; the last value is `return`ed."""
        arguments = []
        for argument, fact in zip(
            self.block.arguments, mlir.argument_facts(self.function), strict=True
        ):
            user = mlir.name_of(argument.location)
            wanted = _argument_name(from_attribute(fact), user)
            name = self.names.give(wanted, 1 << 30, 0)
            self.values[argument] = Text(name)
            arguments.append(name)
        for now, op in enumerate(self.ops[:-1]):
            self.op(op, now)
        return arguments, self.lines

    def results(self) -> list[str]:
        return [self.values[v].text for v in self.ops[-1].operation.operands]

    def op(self, op: mlir.OpView, now: int) -> None:
        operands = [self.operand(op, v) for v in op.operation.operands]
        if op.operation.name == "kernel.grouped_matmul":
            self.grouped(op, operands, now)
            return
        if op.operation.name == "moe.map":
            texts = map_texts(op, operands, self.definitions)
        else:
            texts = [self.expression(op, operands)]
        if len(texts) == 1:
            self.settle(op, op.operation.results[0], texts[0], now)
        else:
            self.unpack(op, texts, now)

    def expression(self, op: mlir.OpView, operands: Sequence[Text]) -> Text:
        """An op outside block programs."""
        return expression_of(op, operands)

    def unpack(self, op: mlir.OpView, texts: list[Text], now: int) -> None:
        """Assign several results at once."""
        names = []
        for result in op.operation.results:
            name = self.names.give(self.wanted(op, result), self.last_use(result), now)
            self.values[result] = Text(name)
            names.append(name)
        self.lines.append(f"{', '.join(names)} = {unpacked(texts)}")

    def last_use(self, value: mlir.Value) -> int:
        users = (mlir.user(use) for use in value.uses)
        return max((self.position.get(id_of(op), 1 << 30) for op in users), default=0)

    def operand(self, op: mlir.OpView, value: mlir.Value) -> Text:
        """A value's text; elementwise, NumPy's rules do the broadcasting."""
        spread = _spread(value)
        if op.operation.name not in _ELEMENTWISE or spread is None:
            return self.values[value]
        source = spread.operation.operands[0]
        if source not in self.values or not _is_covered(op):
            return self.values[value]
        rank = len(result_types(spread)[0].shape)
        return axes_text(self.values[source], _axes(spread), rank)

    def settle(self, op: mlir.OpView, result: mlir.Value, text: Text, now: int) -> None:
        """Inline a short value used once; else assign it."""
        users = [mlir.user(use) for use in result.uses]
        if not users:
            return
        once = len(users) == 1 and users[0].operation.name != "kernel.grouped_matmul"
        constant = (
            op.operation.name == "stablehlo.constant" and not result_types(op)[0].shape
        )
        if constant or (
            once and len(text.text) <= _LONGEST_INLINE and self.is_inner(op)
        ):
            self.values[result] = text
            self.names.hold(text.text, self.last_use(result))
            return
        if op.operation.name == "stablehlo.broadcast_in_dim":
            self.names.hold(text.text, self.last_use(result))
        if self.only_spread(op, users):
            self.values[result] = text
            return
        name = self.names.give(self.wanted(op, result), self.last_use(result), now)
        self.values[result] = Text(name)
        self.lines.append(f"{name} = {text.text}")

    def wanted(self, op: mlir.OpView, result: mlir.Value) -> str:
        """What to call a result: as the layer reports it, or after its op."""
        return self.reported.get(result) or wanted_name(op)

    def is_inner(self, op: mlir.OpView) -> bool:
        """Whether an op is part of a user's larger statement, or has no name."""
        name = mlir.name_of(op.operation.location)
        if not name:
            return op.operation.name not in _OWN_LINE
        later = self.ops[self.position[id_of(op)] + 1 :]
        return any(mlir.name_of(other.operation.location) == name for other in later)

    def only_spread(self, op: mlir.OpView, users: Sequence[mlir.OpView]) -> bool:
        """A broadcast that only elementwise ops use is left to NumPy's rules."""
        return op.operation.name == _SPREAD and all(
            user.operation.name in _ELEMENTWISE and len(user.operation.operands) > 1
            for user in users
        )

    @abstractmethod
    def grouped(self, op: mlir.OpView, operands: list[Text], now: int) -> None:
        """Write a grouped matmul as this backend's kernels do it."""


_SPREAD = "stablehlo.broadcast_in_dim"
_ELEMENTWISE = ("moe.map", "stablehlo.compare")
_OWN_LINE = {
    "moe.softmax",
    "moe.top_k",
    "moe.assign",
    "kernel.row_plan",
    "kernel.combine",
}


def _spread(value: mlir.Value) -> mlir.OpView | None:
    """The broadcast that makes a value, if one does."""
    producer = mlir.producer(value)
    return producer.opview if producer and producer.name == _SPREAD else None


def _axes(spread: mlir.OpView) -> list[int]:
    return list(mlir.int_array(mlir.attributes(spread)["broadcast_dimensions"]))


def _is_covered(op: mlir.OpView) -> bool:
    """Whether the operands without their broadcasts still make the result's shape."""
    shape = list(result_types(op)[0].shape)
    covered = [1] * len(shape)
    for value in op.operation.operands:
        spread = _spread(value)
        if spread is None:
            return True
        sizes = operand_types(spread)[0].shape
        for axis, size in zip(_axes(spread), sizes, strict=True):
            covered[axis] = max(covered[axis], size)
    return covered == shape


def _reported(function: mlir.OpView) -> dict[mlir.Value, str]:
    """The losses and metrics among a function's results, by their own names."""
    *_, last = mlir.entry(function).operations
    found = {}
    for value, fact in zip(
        last.operation.operands, mlir.result_facts(function), strict=True
    ):
        _, _, key = str(from_attribute(fact).get("moe.result", "")).partition(".")
        if key:
            found[value] = key
    return found


def id_of(op: mlir.OpView) -> int:
    """A key that is equal for every wrapper of one op."""
    return hash(op.operation)


def _argument_name(fact: dict[str, object], user: str) -> str:
    """What an argument is called: never like the wrapper's own, which it unpacks."""
    if "moe.cotangent" in fact:
        return "d_" + str(fact["moe.cotangent"]).split(".")[-1]
    if "moe.residual" in fact:
        return f"{user}_given" if user in ("d_output", "d_aux") else user or "kept"
    name = str(fact.get("moe.input") or fact["moe.param"])
    return f"{name}_given" if name in ("d_output", "d_aux", "kept") else name
