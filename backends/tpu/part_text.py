"""A part of a block program as a Python function: a prologue, an epilogue, a side."""

from collections.abc import Sequence

from backends.block_text import (
    BlockText,
    MapTexts,
    argument_name,
    tuple_text,
    value_name,
)
from backends.scalar_text import Text
from backends.tpu.storage import stored_dtype
from ir import mlir
from ir.mlir import Value
from ir.types import from_mlir

# Names of a function's arguments, each with the values that it holds.
Sources = Sequence[tuple[str, Sequence[Value]]]


class PartText(BlockText):
    """Writes the ops between some values of a block and some others.

    With `leaves_sums` the kernel adds up the columns of wanted sums, and the function
    returns what is to be added.
    """

    def __init__(
        self,
        op: mlir.OpView,
        map_texts: MapTexts,
        sources: Sources,
        wanted: Sequence[Value],
        compute: str,
        leaves_sums: bool = False,
    ) -> None:
        super().__init__(op, map_texts)
        self.compute = compute
        self.leaves_sums = leaves_sums
        self.sources = sources
        self.wanted = wanted
        self.names.reserved |= {name for name, _ in sources}

    def function(self, single: bool = False) -> list[str]:
        """`def @(...)`: a tuple of the wanted values, or the one if `single`."""
        needed = self.needed()
        used = {v for op in needed.values() for v in op.operands} | set(self.wanted)
        for name, held in self.sources:
            if used & set(held):
                self.unpack(name, held)
        for now, op in enumerate(self.ops[:-1]):
            if hash(op.operation) in needed:
                self.statement(op, now)
        texts = [self.values[v].text for v in self.wanted]
        arguments = ", ".join(f"{name}: Arrays" for name, _ in self.sources)
        kind = "jax.Array" if single else "Arrays"
        result = texts[0] if single else tuple_text(texts)
        lines = (*self.lines, f"return {result}")
        return [f"def @({arguments}) -> {kind}:", *(f"    {line}" for line in lines)]

    def text(self, op: mlir.OpView, operands: list[Text]) -> Text:
        (result,) = op.operation.results
        wanted = result in self.wanted and len(list(result.uses)) == 1
        left = self.leaves_sums and wanted
        if left and op.operation.name == "kernel.row_dot":
            return Text(" * ".join(operand.within(6) for operand in operands), 6)
        if left and op.operation.name == "kernel.row_sum":
            return operands[0]
        return super().text(op, operands)

    def unpack(self, source: str, held: Sequence[Value]) -> None:
        """Name the values that an argument holds."""
        names = []
        for value in held:
            name = self.names.give(self.name_of(value), 1 << 30, 0)
            self.values[value] = Text(name)
            names.append(name)
        if names:
            left = tuple_text(names) if len(names) == 1 else ", ".join(names)
            self.lines.append(f"{left} = {source}")
        for value, name in zip(held, names, strict=True):
            if self.is_narrow(value):
                self.lines.append(f"{name} = {name}.astype(jnp.float32)")

    def is_narrow(self, value: Value) -> bool:
        """Whether a fetched row space is stored narrower than the IR holds it."""
        if mlir.producer(value) is not None:
            return False
        position = list(self.block.arguments).index(value)
        tensor = from_mlir(value.type)
        stored = stored_dtype(tensor, self.compute)
        return self.kinds[position] == "row" and stored != tensor.dtype

    def name_of(self, value: Value) -> str:
        producer = mlir.producer(value)
        if producer is not None:
            return value_name(producer.opview)
        position = list(self.block.arguments).index(value)
        outer = self.op.operation.operands[position + 1]
        return argument_name(outer, self.kinds[position])

    def is_as_read(self) -> bool:
        """Whether what is wanted is what the first source holds, as it is."""
        _, held = self.sources[0]
        same = tuple(held) == tuple(self.wanted)
        return same and not any(map(self.is_narrow, held))

    def needed(self) -> dict[int, mlir.Operation]:
        """The ops that make the wanted values from the sources."""
        given = {value for _, held in self.sources for value in held}
        found: dict[int, mlir.Operation] = {}
        waiting = list(self.wanted)
        while waiting:
            value = waiting.pop()
            producer = mlir.producer(value)
            if value in given or producer is None or hash(producer) in found:
                continue
            found[hash(producer)] = producer
            waiting.extend(producer.operands)
        return found
