"""From ops on rows to a block program: the region of a `kernel.grouped_matmul`."""

from typing import Any

from ir import mlir
from ir.errors import IllegalIR
from ir.kernel import OPERAND_KINDS as KINDS
from ir.mlir import Value
from ir.op import attributes_of, build, place_of
from ir.types import DYNAMIC, Tensor, from_mlir, to_attribute, to_mlir

WEIGHT_RESULTS = {"moe.expert_outer": "kernel.outer", "moe.expert_sum": "kernel.sum"}
# The operand, besides rows, that an op fetches, and as what kind.
_FETCHES = {
    "moe.dispatch": (0, "token"),
    "moe.dispatch_choices": (0, "choice"),
    "moe.expert_matmul": (1, "weight"),
    "moe.expert_bias": (0, "weight"),
}


class BlockProgram:
    """The ops of one group, written over a block of rows of one expert."""

    def __init__(
        self, choice: Value, ops: list[mlir.OpView], rows: dict[Value, Value]
    ) -> None:
        self.ops = ops
        self.rows = rows
        self.inside = {result for op in ops for result in op.operation.results}
        self.operands = self._find_operands()
        self.experts, self.bound = self._find_sizes()

    def _find_operands(self) -> list[tuple[Value, str]]:
        """What must be fetched, each once, in order of first use, weights last."""
        found: dict[tuple[Value, str], None] = {}
        for op in self.ops:
            operands = list(op.operation.operands)
            if op.operation.name in _FETCHES:
                position, kind = _FETCHES[op.operation.name]
                found[operands[position], kind] = None
            for value in operands:
                if value in self.rows and value not in self.inside:
                    found[value, "row"] = None
        return sorted(found, key=lambda pair: KINDS.index(pair[1]))

    def _find_sizes(self) -> tuple[int, int]:
        experts = bound = 0
        for op in self.ops:
            told = attributes_of(op)
            experts = experts or told.get("experts", 0)
            bound = bound or told.get("rows", 0)
            for value, kind in self.operands:
                shape = from_mlir(value.type).shape
                experts = experts or (shape[0] if kind == "weight" else 0)
                bound = bound or (shape[0] if kind == "row" else 0)
        return experts, bound

    def build(
        self, plan: Value, operands: list[Value], outputs: list[Value]
    ) -> mlir.Operation:
        """Write the op at the insertion point; its results are `outputs`."""
        kinds = [kind for _, kind in self.operands]
        types = [from_mlir(v.type) for v in outputs]
        results = ["row" if v in self.rows else "weight" for v in outputs]
        at = self.ops[-1].operation.location
        made = mlir.create(
            "kernel.grouped_matmul",
            [plan, *operands],
            [v.type for v in outputs],
            {
                "experts": to_attribute(self.experts),
                "rows": to_attribute(self.bound),
                "operands": to_attribute(kinds),
                "results": to_attribute(results),
                "shapes": to_attribute([list(t.shape) for t in types]),
                "dtypes": to_attribute([t.dtype for t in types]),
            },
            at,
            regions=1,
        )
        arguments = [block_type(v, kind) for v, kind in self.operands]
        block = mlir.add_block(made.regions[0], [to_mlir(t) for t in arguments])
        fetched = dict(zip(self.operands, block.arguments, strict=True))
        with mlir.InsertionPoint(block):
            values = self._body(fetched)
            mlir.create("kernel.yield", [values[v] for v in outputs], [], None, at)
        return made

    def _body(self, fetched: dict[tuple[Value, str], Value]) -> dict[Value, Value]:
        values: dict[Value, Value] = {}
        for (value, kind), argument in fetched.items():
            if kind == "row":
                values[value] = argument
        for op in self.ops:
            name, results = op.operation.name, list(op.operation.results)
            if name in ("moe.dispatch", "moe.dispatch_choices"):
                position, kind = _FETCHES[name]
                values[results[0]] = fetched[op.operation.operands[position], kind]
                continue
            values.update(zip(results, _block_op(op, values, fetched), strict=True))
        return values


def block_type(value: Value, kind: str) -> Tensor:
    tensor = from_mlir(value.type)
    if kind == "weight":
        return Tensor(tensor.shape[1:], tensor.dtype)
    width = 1 if kind == "choice" else tensor.shape[1]
    return Tensor((DYNAMIC, width), tensor.dtype)


def _block_op(
    op: mlir.OpView, values: dict[Value, Value], fetched: dict[tuple[Value, str], Value]
) -> list[Value]:
    """One op over a block of rows."""
    name, told, at = op.operation.name, attributes_of(op), op.operation.location
    operands = list(op.operation.operands)
    match name:
        case "moe.expert_matmul":
            pair = [values[operands[0]], fetched[operands[1], "weight"]]
            kept = {key: told[key] for key in ("transposed", "dtype") if key in told}
            return build("kernel.dot", pair, at, **kept)
        case "moe.expert_bias":
            return build("kernel.bias", [fetched[operands[0], "weight"]], at)
        case "moe.expert_outer":
            return build("kernel.outer", [values[v] for v in operands[:2]], at)
        case "moe.expert_sum":
            return build("kernel.sum", [values[operands[0]]], at)
        case "moe.row_dot" | "moe.row_sum":
            block_name = name.replace("moe.", "kernel.")
            return build(block_name, [values[v] for v in operands], at)
        case "stablehlo.broadcast_in_dim":
            width = from_mlir(op.operation.results[0].type).shape[1]
            return build("kernel.broadcast", [values[operands[0]]], at, width=width)
        case "moe.map":
            return map_without_vjp(op, [values[v] for v in operands])
    raise IllegalIR(place_of(op), op=name, after="among rows", reason="it mixes rows")


def map_without_vjp(op: mlir.OpView, operands: list[Value]) -> list[Value]:
    """A map on other operands; its vjp has been used, and is left out."""
    told: dict[str, Any] = attributes_of(op)
    shape = from_mlir(operands[0].type).shape
    made = mlir.create(
        "moe.map",
        operands,
        [to_mlir(Tensor(shape, dtype)) for dtype in told["results"]],
        {key: to_attribute(told[key]) for key in ("name", "results")},
        op.operation.location,
        regions=2,
    )
    source = op.operation.regions[0]
    block = mlir.add_block(
        made.regions[0], [a.type for a in source.blocks[0].arguments]
    )
    yielded = mlir.copy_region(source, block, list(block.arguments))
    with mlir.InsertionPoint(block):
        mlir.create("moe.yield", yielded, [], None, op.operation.location)
    return list(made.results)
