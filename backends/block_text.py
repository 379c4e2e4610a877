"""A block program as a Python function of a block of rows of one expert."""

from collections.abc import Callable, Sequence

from backends.naming import Names, wanted_name
from backends.scalar_text import Text, unpacked
from ir import mlir
from ir.op import attributes_of
from ir.types import Tensor

_ARGUMENTS = "own: jax.Array, rows: Arrays, weights: Arrays"

MapTexts = Callable[[mlir.OpView, Sequence[Text]], list[Text]]


def block_function(
    op: mlir.OpView, types: Sequence[Tensor], map_texts: MapTexts
) -> list[str]:
    """The lines of `def @(own, rows, weights)`, with '@' for the name.

    By columns (see `kernels/products.py`) it works on columns, and returns them.
    `own` [rows, 1] marks the rows that are the expert's; sums over rows leave the
    others out, so that nothing in them, not even a NaN, counts.
    """
    return BlockText(op, map_texts).run()


class BlockText:
    """Writes the ops of a block program as statements."""

    def __init__(self, op: mlir.OpView, map_texts: MapTexts) -> None:
        self.op = op
        self.map_texts = map_texts
        self.block = op.operation.regions[0].blocks[0]
        self.ops = list(self.block.operations)
        self.position = {hash(op.operation): i for i, op in enumerate(self.ops)}
        told = attributes_of(op)
        self.kinds: list[str] = told["operands"]
        self.by_columns = told["schedule"].get("by_columns", False)
        self.names = Names({"own", "rows", "weights"})
        self.values: dict[mlir.Value, Text] = {}
        self.lines: list[str] = []

    @property
    def width_axis(self) -> int:
        return 0 if self.by_columns else 1

    def run(self) -> list[str]:
        told = attributes_of(self.op)
        self.arguments(told["operands"])
        for now, op in enumerate(self.ops[:-1]):
            self.statement(op, now)
        made: dict[str, list[str]] = {"row": [], "weight": []}
        yielded = self.ops[-1].operation.operands
        for value, kind in zip(yielded, told["results"], strict=True):
            made[kind].append(self.values[value].text)
        results = ", ".join(tuple_text(made[kind]) for kind in ("row", "weight"))
        return [
            f"def @({_ARGUMENTS}) -> tuple[Arrays, Arrays]:",
            *(f"    {line}" for line in (*self.lines, f"return {results}")),
        ]

    def arguments(self, kinds: Sequence[str]) -> None:
        """Unpack rows and weights under names after their kind."""
        unpacked: dict[str, list[str]] = {"rows": [], "weights": []}
        operands = list(self.op.operation.operands)[1:]
        for argument, kind, outer in zip(
            self.block.arguments, kinds, operands, strict=True
        ):
            name = self.names.give(argument_name(outer, kind), 1 << 30, 0)
            turned = self.by_columns and kind != "weight"
            self.values[argument] = Text(f"{name}.T" if turned else name)
            unpacked["weights" if kind == "weight" else "rows"].append(name)
        for source, names in unpacked.items():
            if names:
                left = tuple_text(names) if len(names) == 1 else ", ".join(names)
                self.lines.append(f"{left} = {source}")

    def statement(self, op: mlir.OpView, now: int) -> None:
        operands = [self.values[v] for v in op.operation.operands]
        results = list(op.operation.results)
        if op.operation.name == "moe.map":
            texts = self.map_texts(op, operands)
        else:
            texts = [self.text(op, operands)]
        if len(texts) == 1:
            self.settle(op, results[0], texts[0], now)
            return
        names = []
        for result in results:
            name = self.names.give(value_name(op), self.last_use(result, now), now)
            self.values[result] = Text(name)
            names.append(name)
        self.lines.append(f"{', '.join(names)} = {unpacked(texts)}")

    def last_use(self, value: mlir.Value, now: int) -> int:
        users = (mlir.user(use) for use in value.uses)
        return max((self.position[hash(op.operation)] for op in users), default=now)

    def settle(self, op: mlir.OpView, result: mlir.Value, text: Text, now: int) -> None:
        users = [mlir.user(use) for use in result.uses]
        inner = op.operation.name in ("kernel.broadcast", "kernel.bias", "moe.map")
        if text.text.isidentifier() or (
            inner and len(users) == 1 and len(text.text) < 40
        ):
            self.values[result] = text
            self.names.hold(text.text, self.last_use(result, now))
            return
        name = self.names.give(value_name(op), self.last_use(result, now), now)
        self.values[result] = Text(name)
        self.lines.append(f"{name} = {text.text}")

    def text(self, op: mlir.OpView, operands: list[Text]) -> Text:
        plain = [operand.text for operand in operands]
        match op.operation.name:
            case "kernel.dot":
                if self.by_columns:
                    return self.columns(op.operation.operands[0], *plain)
                turned = attributes_of(op)["transposed"]
                name = "expert_dot_t" if turned else "expert_dot"
                return Text(f"{name}({plain[0]}, {plain[1]})")
            case "kernel.bias" if self.by_columns:
                return Text(f"{plain[0]}.T")
            case "kernel.outer":
                left, right = (self.owned(v) for v in op.operation.operands)
                return Text(f"expert_outer({left.text}, {right.text})")
            case "kernel.sum":
                return Text(
                    f"jnp.sum({self.owned(op.operation.operands[0]).text}, axis=-2)"
                )
            case "kernel.row_dot":
                product = " * ".join(operand.within(6) for operand in operands)
                return Text(
                    f"jnp.sum({product}, axis={self.width_axis}, keepdims=True)"
                )
            case "kernel.row_sum":
                total = f"jnp.sum({plain[0]}, axis={self.width_axis}, keepdims=True)"
                return Text(total)
        return operands[0]

    def columns(self, left: mlir.Value, text: str, weights: str) -> Text:
        """A product that makes columns: of the rows of an argument, or of columns."""
        if mlir.producer(left) is None:
            return Text(f"columns_of_rows({weights}, {text.removesuffix('.T')})")
        return Text(f"column_dot({weights}, {text})")

    def owned(self, value: mlir.Value) -> Text:
        """A value, with rows that are not the expert's zeroed if it was computed."""
        text = self.values[value]
        if mlir.producer(value) is None:
            return text
        return Text(f"jnp.where(own, {text.text}, 0)")


def value_name(op: mlir.OpView) -> str:
    title = op.operation.name.split(".")[-1]
    if title == "outer":
        return "d_weights"
    return mlir.name_of(op.operation.location) or wanted_name(op)


def argument_name(outer: mlir.Value, kind: str) -> str:
    producer = mlir.producer(outer)
    location = producer.location if producer is not None else outer.location
    name = mlir.name_of(location)
    return name or {"token": "x", "choice": "gate", "row": "kept", "weight": "w"}[kind]


def tuple_text(items: Sequence[str]) -> str:
    return f"({items[0]},)" if len(items) == 1 else f"({', '.join(items)})"
