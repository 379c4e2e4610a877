"""Fuse: ops of `moe` on rows become kernel ops.

All ops on the rows of one choice, from the fetches to what leaves the rows again, form
one block program, run by one `kernel.grouped_matmul`. A chain that dispatches what it
combined before is cut there.
"""

from dataclasses import dataclass, field
from typing import ClassVar

from ir import kernel, mlir
from ir.mlir import Value
from ir.op import attributes_of, build
from ir.passes.base import Pass
from ir.passes.block_program import WEIGHT_RESULTS, BlockProgram, map_without_vjp
from ir.rows import CHOICE_OPERAND, LEAVES_ROWS, row_choices
from ir.types import from_mlir


@dataclass(frozen=True)
class Fuse(Pass):
    """Gather ops on rows into block programs, one for each choice and stage."""

    name: ClassVar[str] = "fuse"

    def apply(self, module: mlir.Module) -> None:
        for name, function in mlir.functions(module).items():
            rewritten = _Rewriter(module, name, function).run()
            mlir.replace(function, rewritten)


@dataclass
class _Group:
    """Ops on the rows of one choice that run together."""

    choice: Value
    ops: list[mlir.OpView] = field(default_factory=list)


class _Rewriter:
    def __init__(self, module: mlir.Module, name: str, function: mlir.OpView) -> None:
        self.source = mlir.entry(function)
        self.facts = mlir.argument_facts(function), mlir.result_facts(function)
        self.rows = row_choices(self.source)
        self.groups: dict[Value, _Group] = {}
        self.plans: dict[Value, Value] = {}
        self.values: dict[Value, Value] = {}
        arguments = self.source.arguments
        self.block = mlir.add_function(
            module,
            name,
            [a.type for a in arguments],
            [],
            [a.location for a in arguments],
            self.facts[0],
            [],
        )
        self.values.update(zip(arguments, self.block.arguments, strict=True))

    def run(self) -> mlir.OpView:
        self.find_groups()
        *body, last = list(self.source.operations)
        with mlir.InsertionPoint(self.block):
            for op in body:
                if not self.in_group(op):
                    self.emit(op)
            results = [self.value(v) for v in last.operation.operands]
            mlir.create("func.return", results, [], None, last.operation.location)
        mlir.finish_function(self.block, *self.facts)
        return self.block.owner

    def find_groups(self) -> None:
        """Group ops on rows by choice and by how many combines they come after."""
        stages: dict[Value, int] = {}
        found: dict[tuple[Value, int], _Group] = {}
        for op in self.source.operations:
            operands, results = list(op.operation.operands), list(op.operation.results)
            stage = max((stages.get(v, 0) for v in operands), default=0)
            stage += op.operation.name in LEAVES_ROWS
            stages.update((result, stage) for result in results)
            choice = self.choice_of(op)
            if choice is None:
                continue
            group = found.setdefault((choice, stage), _Group(choice))
            group.ops.append(op)
            self.groups.update((result, group) for result in results)

    def choice_of(self, op: mlir.OpView) -> Value | None:
        """The choice whose rows an op works on; None if it stays with tokens."""
        if op.operation.name in WEIGHT_RESULTS:
            choice: Value = op.operation.operands[CHOICE_OPERAND[op.operation.name]]
            return choice
        results = list(op.operation.results)
        return self.rows.get(results[0]) if results else None

    def in_group(self, op: mlir.OpView) -> bool:
        results = list(op.operation.results)
        return bool(results) and results[0] in self.groups

    def value(self, source: Value) -> Value:
        """The new value of an old one, emitting what it needs first."""
        if source not in self.values:
            group = self.groups.get(source)
            if group is not None:
                self.emit_group(group)
            else:
                producer = mlir.producer(source)
                assert producer is not None
                self.emit(producer.opview)
        return self.values[source]

    def emit(self, op: mlir.OpView) -> None:
        """Copy an op on tokens; what brings rows back becomes a kernel op."""
        results = list(op.operation.results)
        if results and results[0] in self.values:
            return
        operands = [self.value(v) for v in op.operation.operands]
        if op.operation.name == "moe.map":
            made = map_without_vjp(op, operands)
            self.values.update(zip(results, made, strict=True))
            return
        if op.operation.name not in LEAVES_ROWS:
            made = mlir.clone(op.operation, operands)
            self.values.update(zip(results, made.results, strict=True))
            return
        told, at = attributes_of(op), op.operation.location
        rows, _, *gates = operands
        bound = from_mlir(rows.type).shape[0]
        plan = self.plan(op.operation.operands[1], told["experts"], bound)
        name = op.operation.name.replace("moe.", "kernel.")
        dtype = {"dtype": told["dtype"]} if "dtype" in told else {}
        self.values[results[0]] = build(name, [plan, rows, *gates], at, **dtype)[0]

    def plan(self, choice: Value, experts: int, rows: int) -> Value:
        if choice not in self.plans:
            at = mlir.located("plan", mlir.file_and_line(_location(choice)))
            (self.plans[choice],) = build(
                kernel.RowPlan.OPERATION_NAME,
                [self.value(choice)],
                at,
                experts=experts,
                rows=rows,
            )
        return self.plans[choice]

    def emit_group(self, group: _Group) -> None:
        program = BlockProgram(group.choice, group.ops, self.rows)
        outputs = [
            v for op in group.ops for v in op.operation.results if self.leaves(v, group)
        ]
        operands = [self.value(v) for v, _ in program.operands]
        plan = self.plan(group.choice, program.experts, program.bound)
        made = program.build(plan, operands, outputs)
        self.values.update(zip(outputs, made.results, strict=True))

    def leaves(self, value: Value, group: _Group) -> bool:
        """Whether anything outside the group uses a value of it."""
        users = [mlir.user(use) for use in value.uses]
        return any(
            not self.in_group(op) or self.group_of(op) is not group for op in users
        )

    def group_of(self, op: mlir.OpView) -> _Group:
        return self.groups[op.operation.results[0]]


def _location(choice: Value) -> mlir.Location:
    producer = mlir.producer(choice)
    return producer.location if producer is not None else choice.location
