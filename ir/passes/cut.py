"""Cut: a block program becomes a chain of pieces, each with one layer of products.

On a chip whose memory cannot hold an expert's whole chain, a kernel does the products
of one step: what comes before them (a prologue, on fetched rows) and after them (an
epilogue) stays with them; what the next step needs goes through memory, rounded as that
step's product would round it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from ir import mlir
from ir.build import convert
from ir.kernel import OPERAND_KINDS as KINDS
from ir.kernel import product_dtype
from ir.mlir import Value
from ir.op import attributes_of
from ir.passes.base import Pass
from ir.passes.block_program import block_type
from ir.types import Tensor, from_mlir, to_attribute, to_mlir

_SUMS = ("kernel.outer", "kernel.sum")
_PRODUCTS = ("kernel.dot", "kernel.outer")
_FREE = -1  # home of what follows from fetched rows alone: done again where needed


@dataclass(frozen=True)
class Cut(Pass):
    """Cut every grouped matmul at its products.

    Products of one shape whose rows are at hand at the same time share a piece; every
    gradient of weights has its own.
    """

    name: ClassVar[str] = "cut"

    def apply(self, module: mlir.Module) -> None:
        for op in list(mlir.walk(module.body)):
            if op.operation.name == "kernel.grouped_matmul":
                _Cutter(op).run()


@dataclass
class _Piece:
    shape: tuple[int, ...]
    ops: list[mlir.OpView] = field(default_factory=list)


class _Cutter:
    def __init__(self, op: mlir.OpView) -> None:
        self.op = op
        self.told = attributes_of(op)
        block = op.operation.regions[0].blocks[0]
        *self.ops, self.last = list(block.operations)
        self.plan, *outer = op.operation.operands
        kinds = self.told["operands"]
        self.fetched = dict(
            zip(block.arguments, zip(kinds, outer, strict=True), strict=True)
        )
        self.home: dict[Value, int] = dict.fromkeys(block.arguments, _FREE)
        self.yielded = list(self.last.operation.operands)
        self.pieces: list[_Piece] = []
        self.stored: dict[Value, Value] = {}

    def run(self) -> None:
        for op in self.ops:
            self.place(op)
        self.place_loose_results()
        if len(self.pieces) < 2:
            return
        with mlir.InsertionPoint(self.op):
            for number in range(len(self.pieces)):
                self.emit(number)
        yielded = self.last.operation.operands
        for old, value in zip(self.op.operation.results, yielded, strict=True):
            old.replace_all_uses_with(self.stored[value])
        self.op.operation.erase()

    def place(self, op: mlir.OpView) -> None:
        """Put an op in a piece: as early as its operands allow."""
        operands = list(op.operation.operands)
        ready = max((self.home[v] for v in operands), default=_FREE)
        home = ready
        if op.operation.name == "kernel.dot":
            home = self.joined(ready, tuple(from_mlir(operands[1].type).shape))
        elif op.operation.name in _SUMS:
            home = self.opened(())
        self.home.update(dict.fromkeys(op.operation.results, home))
        if home != _FREE:
            self.pieces[home].ops.append(op)

    def joined(self, ready: int, shape: tuple[int, ...]) -> int:
        """The first piece after `ready` with products of this shape, or a new one."""
        for number in range(ready + 1, len(self.pieces)):
            if self.pieces[number].shape == shape:
                return number
        return self.opened(shape)

    def opened(self, shape: tuple[int, ...]) -> int:
        self.pieces.append(_Piece(shape))
        return len(self.pieces) - 1

    def place_loose_results(self) -> None:
        """Results that no product leads to get a piece of their own."""
        loose = [v for v in self.last.operation.operands if self.home[v] == _FREE]
        if not loose:
            return
        home = self.opened(())
        for value in loose:
            producer = mlir.producer(value)
            if producer is not None:
                self.pieces[home].ops.append(producer.opview)
                self.home.update(dict.fromkeys(producer.results, home))
            else:
                self.home[value] = home

    def needed(self, number: int) -> list[Value]:
        """Values of a piece that the results or other pieces read."""
        made = [v for v, home in self.home.items() if home == number]
        return [v for v in made if v in self.yielded or self.stores(v, number)]

    def stores(self, value: Value, number: int) -> bool:
        """Whether other pieces read a value and must find it in memory."""
        return bool(self.readers(value, number)) and not self.follows(value)

    def follows(self, value: Value) -> bool:
        """Whether a value is made, element by element, of one result that is stored.

        Its readers make it again: what they fetch is no wider than the value itself.
        """
        producer = mlir.producer(value)
        if value in self.yielded or producer is None or producer.name != "moe.map":
            return False
        if len(producer.operands) != 1:
            return False
        (source,) = producer.operands
        stored = source in self.yielded and source not in self.fetched
        return stored or self.follows(source)

    def readers(self, value: Value, number: int) -> list[mlir.OpView]:
        """Ops of other pieces that read a value."""
        users = [mlir.user(use) for use in value.uses]
        return [
            op
            for op in users
            if op.operation.results and self.home[op.operation.results[0]] != number
        ]

    def emit(self, number: int) -> None:
        """Write a piece as a grouped matmul before the old one."""
        results = self.needed(number)
        inputs = self.inputs(number, results)
        types = [self.type_of(v, number) for v in results]
        kinds = ["row" if self.is_row(v) else "weight" for v in results]
        made = mlir.create(
            "kernel.grouped_matmul",
            [self.plan, *(self.outer(v) for v in inputs)],
            [to_mlir(t) for t in types],
            {
                "experts": to_attribute(self.told["experts"]),
                "rows": to_attribute(self.told["rows"]),
                "operands": to_attribute([self.kind(v) for v in inputs]),
                "results": to_attribute(kinds),
                "shapes": to_attribute([list(t.shape) for t in types]),
                "dtypes": to_attribute([t.dtype for t in types]),
            },
            self.pieces[number].ops[-1].operation.location,
            regions=1,
        )
        self.fill(made, number, inputs, results, types)
        self.stored.update(zip(results, made.results, strict=True))

    def fill(
        self,
        made: mlir.Operation,
        number: int,
        inputs: Sequence[Value],
        results: Sequence[Value],
        types: Sequence[Tensor],
    ) -> None:
        """Write the piece's own block program."""
        arguments = [block_type(self.outer(v), self.kind(v)) for v in inputs]
        block = mlir.add_block(made.regions[0], [to_mlir(t) for t in arguments])
        values: dict[Value, Value] = dict(zip(inputs, block.arguments, strict=True))
        with mlir.InsertionPoint(block):
            for op in self.pieces[number].ops:
                self.copy(op, values)
            yielded = [
                convert(values[v], kind.dtype, made.location)
                if self.is_row(v) and v not in self.last.operation.operands
                else values[v]
                for v, kind in zip(results, types, strict=True)
            ]
            mlir.create("kernel.yield", yielded, [], None, made.location)

    def copy(self, op: mlir.OpView, values: dict[Value, Value]) -> None:
        """Copy an op into the block, after whatever of the prologue it needs."""
        for value in op.operation.operands:
            producer = mlir.producer(value)
            if value not in values and producer is not None:
                self.copy(producer.opview, values)
        operands = [values[v] for v in op.operation.operands]
        copied = mlir.clone(op.operation, operands)
        values.update(zip(op.operation.results, copied.results, strict=True))

    def inputs(self, number: int, results: Sequence[Value]) -> list[Value]:
        """What a piece fetches: arguments of the old block, and stored values."""
        found: dict[Value, None] = {v: None for v in results if v in self.fetched}
        waiting = [v for op in self.pieces[number].ops for v in op.operation.operands]
        while waiting:
            value = waiting.pop(0)
            producer = mlir.producer(value)
            other = self.home[value] not in (number, _FREE)
            if value in self.fetched or (other and not self.follows(value)):
                found[value] = None
            elif (other or self.home[value] == _FREE) and producer is not None:
                waiting = [*producer.operands, *waiting]
        return sorted(found, key=lambda v: KINDS.index(self.kind(v)))

    def kind(self, value: Value) -> str:
        return self.fetched[value][0] if value in self.fetched else "row"

    def outer(self, value: Value) -> Value:
        """The value outside the block that a fetched one comes from."""
        return self.fetched[value][1] if value in self.fetched else self.stored[value]

    def is_row(self, value: Value) -> bool:
        producer = mlir.producer(value)
        return producer is None or producer.name not in _SUMS

    def type_of(self, value: Value, number: int) -> Tensor:
        """A result's type: as before, or as narrow as its readers would round it."""
        yielded = list(self.last.operation.operands)
        if value in yielded:
            return from_mlir(self.op.operation.results[yielded.index(value)].type)
        tensor = from_mlir(value.type)
        rounded = all(
            op.operation.name in _PRODUCTS for op in self.readers(value, number)
        )
        dtype = self.weights_dtype() if rounded else tensor.dtype
        return Tensor((self.told["rows"], tensor.shape[1]), dtype)

    def weights_dtype(self) -> str:
        """What products of the program round to: one layer has one dtype."""
        dots = (op for op in self.ops if op.operation.name == "kernel.dot")
        return next(map(product_dtype, dots), "float32")
