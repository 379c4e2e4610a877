"""From ops on tokens to a block program: the region of a `kernel.router`."""

from ir import mlir
from ir.build import op as stablehlo
from ir.errors import IllegalIR
from ir.kernel_router import ROUTER_OPERANDS as KINDS
from ir.mlir import Value
from ir.op import attributes_of, build, place_of
from ir.passes.block_program import map_without_vjp
from ir.passes.token_ops import (
    TokenOps,
    groups_of,
    reduction,
    shape_of,
    width_of,
)
from ir.types import DYNAMIC, Tensor, from_mlir, to_attribute, to_mlir


class RouterProgram:
    """Some ops on the tokens of a function, written over a tile of tokens."""

    def __init__(self, ops: list[mlir.OpView], known: TokenOps) -> None:
        self.ops = ops
        self.known = known
        self.roles = {hash(op.operation): known.role(op) or "wide" for op in ops}
        self.inside = {result for op in ops for result in op.operation.results}
        found = {pair: None for op in ops for pair in self.reads(op)}
        self.operands = sorted(found, key=lambda pair: KINDS.index(pair[1]))
        tokens = [v for v, kind in self.operands if kind == "token"]
        self.tokens = shape_of(tokens[0])[0]
        sums = [op for op in ops if self.role(op) == "sum"]
        self.groups = max([groups_of(op) for op in sums] + self.group_sizes() + [1])

    def role(self, op: mlir.OpView) -> str:
        return self.roles[hash(op.operation)]

    def group_sizes(self) -> list[int]:
        return [shape_of(v)[0] for v, kind in self.operands if kind == "group"]

    def one_grouping(self) -> bool:
        """Whether all that is split in groups is split in the same ones."""
        sums = [groups_of(op) for op in self.ops if self.role(op) == "sum"]
        return {*sums, *self.group_sizes()} <= {0, 1, self.groups}

    def reads(self, op: mlir.OpView) -> list[tuple[Value, str]]:
        """What an op reads of the outside, and as what kind."""
        pairs = reads_of(op, self.known, self.role(op))
        return [pair for pair in pairs if pair[0] not in self.inside]

    def build(self, outputs: list[Value]) -> mlir.Operation:
        """Write the op at the insertion point; its results are `outputs`."""
        at = self.place()
        results = {value: self.result(value) for value in outputs}
        made = mlir.create(
            "kernel.router",
            [value for value, _ in self.operands],
            [to_mlir(kind) for _, kind in results.values()],
            {
                "tokens": to_attribute(self.tokens),
                "groups": to_attribute(self.groups),
                "narrow": to_attribute(sorted(self.known.widths)),
                "operands": to_attribute([kind for _, kind in self.operands]),
                "results": to_attribute([kind for kind, _ in results.values()]),
                "shapes": to_attribute([list(t.shape) for _, t in results.values()]),
                "dtypes": to_attribute([t.dtype for _, t in results.values()]),
            },
            at,
            regions=1,
        )
        arguments = [self.block_type(v, kind) for v, kind in self.operands]
        block = mlir.add_block(made.regions[0], [to_mlir(t) for t in arguments])
        fetched = dict(zip(self.operands, block.arguments, strict=True))
        with mlir.InsertionPoint(block):
            values = self.body(fetched)
            mlir.create("kernel.yield", [values[v] for v in outputs], [], None, at)
        return made

    def place(self) -> mlir.Location:
        products = [op for op in self.ops if self.role(op) == "product"]
        return (products or self.ops)[0].operation.location

    def result(self, value: Value) -> tuple[str, Tensor]:
        """The kind of a result, and its type in the op."""
        producer = mlir.producer(value)
        assert producer is not None
        role, tensor = self.roles[hash(producer)], from_mlir(value.type)
        if role == "outer":
            return "sum", tensor
        if role != "sum":
            return "token", Tensor((self.tokens, width_of(value)), tensor.dtype)
        summed = self.known.summed(producer.opview)
        assert summed is not None
        width = _sum_width(producer.opview, summed)
        if groups_of(producer.opview) in (0, 1) and self.groups > 1:
            return "sum", Tensor((width,), tensor.dtype)
        if groups_of(producer.opview):
            return "group", Tensor((self.groups, width), tensor.dtype)
        return "sum", Tensor((width,), tensor.dtype)

    def block_type(self, value: Value, kind: str) -> Tensor:
        tensor = from_mlir(value.type)
        if kind == "token":
            return Tensor((DYNAMIC, width_of(value)), tensor.dtype)
        return Tensor(tensor.shape[1:], tensor.dtype) if kind == "group" else tensor

    def body(self, fetched: dict[tuple[Value, str], Value]) -> dict[Value, Value]:
        """Every value of the ops over a tile."""
        values = {v: a for (v, kind), a in fetched.items() if kind == "token"}
        for op in self.ops:
            made = self.written(op, values, fetched)
            values.update(zip(op.operation.results, made, strict=True))
        return values

    def written(
        self,
        op: mlir.OpView,
        values: dict[Value, Value],
        fetched: dict[tuple[Value, str], Value],
    ) -> list[Value]:
        """One op over a tile of tokens."""
        at, operands = op.operation.location, list(op.operation.operands)
        match self.role(op):
            case "spread":
                source = self.spread(op, fetched)
                width = width_of(op.operation.results[0])
                return build("kernel.spread", [source], at, width=width)
            case "product":
                _, (axis,) = mlir.contracting_axes(op)
                pair = [values[narrowest(operands[0])], fetched[operands[1], "whole"]]
                return build("kernel.dot", pair, at, transposed=axis == 1)
            case "outer":
                pair = [values[narrowest(v)] for v in operands]
                return build("kernel.outer", pair, at)
            case "sum":
                return self.summed(op, values)
        return _own(op, values)

    def spread(self, op: mlir.OpView, fetched: dict[tuple[Value, str], Value]) -> Value:
        """What an op spreads over tokens; a known number is written where it is."""
        pair = self.known.spread(op)
        assert pair is not None
        if not is_number(pair[1]):
            return fetched[pair[1], pair[0]]
        made = mlir.producer(pair[1])
        assert made is not None
        return mlir.clone(made, []).results[0]

    def summed(self, op: mlir.OpView, values: dict[Value, Value]) -> list[Value]:
        at, told = op.operation.location, attributes_of(op)
        source = self.known.summed(op)
        assert source is not None
        value = values[source]
        if op.operation.name == "moe.count":
            (value,) = build("kernel.count", [value], at, experts=told["experts"])
        elif _sum_width(op, source) < width_of(source):
            (value,) = build("kernel.row_reduce", [value], at, by="add")
        return build("kernel.sum", [value], at)


def reads_of(op: mlir.OpView, known: TokenOps, role: str) -> list[tuple[Value, str]]:
    """What an op of a role reads, and as what kind."""
    operands = list(op.operation.operands)
    match role:
        case "spread":
            pair = known.spread(op)
            assert pair is not None
            return [] if is_number(pair[1]) else [(pair[1], pair[0])]
        case "product":
            return [(narrowest(operands[0]), "token"), (operands[1], "whole")]
        case "outer":
            return [(narrowest(value), "token") for value in operands]
        case "sum":
            summed = known.summed(op)
            assert summed is not None
            return [(summed, "token")]
        case "own" if op.operation.name == "stablehlo.reduce":
            return [(operands[0], "token")]
    return [(value, "token") for value in operands]


def narrowest(value: Value) -> Value:
    """A value before it was widened: a product of what is wider is the same."""
    producer = mlir.producer(value)
    if producer is None or producer.name != "moe.map" or len(producer.operands) != 1:
        return value
    inner = [op.operation.name for op in producer.regions[0].blocks[0].operations]
    before, after = (from_mlir(v.type) for v in (producer.operands[0], value))
    widens = (before.dtype, after.dtype) == ("bfloat16", "float32")
    plain = inner == ["stablehlo.convert", "moe.yield"]
    return producer.operands[0] if widens and plain else value


def is_number(value: Value) -> bool:
    """Whether a value is one number that is known now."""
    producer = mlir.producer(value)
    constant = producer is not None and producer.name == "stablehlo.constant"
    return constant and not shape_of(value)


def reshaped(value: Value, old: Value) -> Value:
    """A result in the shape that it had before."""
    wanted = from_mlir(old.type)
    if shape_of(value) == wanted.shape:
        return value
    producer = mlir.producer(old)
    assert producer is not None
    return stablehlo("stablehlo.reshape", [value], wanted, producer.location)


def _sum_width(op: mlir.OpView, summed: Value) -> int:
    """How many sums an op makes of each token's numbers."""
    if op.operation.name == "moe.count":
        return int(attributes_of(op)["experts"])
    axes = mlir.int_array(op.operation.attributes["dimensions"])
    return 1 if axes == [0, 1] else width_of(summed)


def _own(op: mlir.OpView, values: dict[Value, Value]) -> list[Value]:
    """An op on each token's own numbers."""
    name, at = op.operation.name, op.operation.location
    operands = [values[v] for v in op.operation.operands if v in values]
    (result, *_) = op.operation.results
    width = width_of(result)
    match name:
        case "moe.map":
            return map_without_vjp(op, operands)
        case "moe.softmax" | "moe.softmax_grad" | "moe.top_k" | "moe.take" | "moe.put":
            return build(name, operands, at, **attributes_of(op))
        case "moe.row_sum":
            return build("kernel.row_sum", operands, at)
        case "stablehlo.reduce" if width_of(op.operation.operands[0]) > 1:
            return build("kernel.row_reduce", operands, at, by=reduction(op))
        case "stablehlo.broadcast_in_dim" if width > width_of(op.operation.operands[0]):
            return build("kernel.broadcast", operands, at, width=width)
        case "stablehlo.slice":
            start = mlir.int_array(op.operation.attributes["start_indices"])[1]
            ends = {"start": start, "limit": start + width}
            return build("kernel.columns", operands, at, **ends)
        case "stablehlo.compare" | "stablehlo.concatenate":
            kind = Tensor((DYNAMIC, width), from_mlir(result.type).dtype)
            return [stablehlo(name, operands, kind, at, **mlir.attributes(op))]
        case "stablehlo.reduce" | "stablehlo.broadcast_in_dim" | "stablehlo.reshape":
            return operands[:1]  # of one number a token, the same number
    raise IllegalIR(
        place_of(op), op=name, after="in fuse-router", reason="is no token's"
    )
