"""Fuse the router: ops on tokens become one kernel op, a block program over tiles.

Around the products of tokens by a router's weights, forward or backward, the ops on
each token's own numbers and the sums over tokens run in one pass over the tokens.
"""

from dataclasses import dataclass
from typing import ClassVar

from ir import mlir
from ir.mlir import Value
from ir.passes.base import Pass
from ir.passes.router_program import RouterProgram, reshaped
from ir.passes.token_graph import HEAVY, TokenGraph, key
from ir.passes.token_ops import ELEMENTWISE, width_of
from ir.router_sizes import sizes_of


@dataclass(frozen=True)
class FuseRouter(Pass):
    """Gather the ops of routers into `kernel.router`.

    memory: bytes that a kernel may hold on the chip; 0 for any number. A router whose
    weights and smallest tile take more stays as it is.
    """

    name: ClassVar[str] = "fuse-router"
    memory: int = 0

    def apply(self, module: mlir.Module) -> None:
        for function in mlir.functions(module).values():
            refused: set[int] = set()
            while self.fuse_one(mlir.entry(function), refused):
                pass

    def fuse_one(self, block: mlir.Block, refused: set[int]) -> bool:
        """Fuse the first router that can be; the products of others are `refused`."""
        graph = TokenGraph(block)
        for level in sorted(set(graph.levels.values())):
            seeds = [op for op in graph.seeds(level) if key(op) not in refused]
            if not seeds:
                continue
            group = _Group(graph, seeds)
            program = RouterProgram(group.body, graph.known)
            if program.one_grouping() and group.replaced(program, self.memory):
                return True
            refused.update(map(key, seeds))
        return False


class _Group:
    """The ops of one router: `own` ones are replaced, others done again."""

    def __init__(self, graph: TokenGraph, seeds: list[mlir.OpView]) -> None:
        self.graph = graph
        self.own: set[int] = set()
        self._take(graph.before(graph.after(seeds)))
        self._widen()
        self._spare()
        self.members = [op for op in graph.ops if key(op) in self.own]
        again = {key(op) for op in graph.repeated(self.members)}
        self.body = [op for op in graph.ops if key(op) in self.own | again]
        self.last = self.members[-1]

    def _take(self, ops: list[mlir.OpView]) -> None:
        """Own what is heavy, and what follows from that; the rest is done again."""
        held = {key(op) for op in ops}
        for op in self.graph.ops:
            follows = any(map(self.is_own, self.graph.inputs[key(op)]))
            if key(op) in held and (follows or op.operation.name in HEAVY):
                self.own.add(key(op))

    def _widen(self) -> None:
        """Take in what is made of a product's rows, element by element."""
        late: set[int] = set()
        for op in self.graph.ops:
            makers = makers_of(op)
            if self.is_own(op):
                continue
            if not late & makers and self.follows_product(op):
                self.own.add(key(op))
            elif makers & (late | self.own):
                late.add(key(op))

    def _spare(self) -> None:
        """Leave out elementwise ends that others can as well make of other results."""
        for op in reversed(self.graph.ops):
            if not self.is_own(op):
                continue
            ends = self._end(op)
            before = self._kept_columns()
            self.own -= ends
            if self._kept_columns() >= before:
                self.own |= ends

    def _end(self, op: mlir.OpView) -> set[int]:
        """The elementwise ops that only lead to an op, which nothing inside reads."""
        found: set[int] = set()
        waiting = [op]
        while waiting:
            each = waiting.pop()
            inside = {key(user) for user in self.graph.readers[key(each)]} & self.own
            if each.operation.name not in ELEMENTWISE or inside - found:
                continue
            found.add(key(each))
            waiting += [o for o in self.graph.inputs[key(each)] if self.is_own(o)]
        return found

    def _kept_columns(self) -> int:
        """Numbers of each token that leave the group."""
        made = [op for op in self.graph.ops if self.is_own(op)]
        return sum(
            width_of(value)
            for op in made
            for value in results(op)
            if value in self.graph.known.tokens and self.leaves(value)
        )

    def follows_product(self, op: mlir.OpView) -> bool:
        """Whether an op is elementwise on rows of a token that the group makes."""
        if op.operation.name not in ELEMENTWISE or self.graph.roles[key(op)]:
            return False
        makers = (mlir.producer(value) for value in op.operation.operands)
        return any(
            made is not None
            and key(made) in self.own
            and self.graph.roles[key(made)] in ("product", "")
            for made in makers
        )

    def is_own(self, op: mlir.OpView) -> bool:
        return key(op) in self.own

    @property
    def outputs(self) -> list[Value]:
        """What ops outside of the group read."""
        return [v for op in self.members for v in results(op) if self.leaves(v)]

    def leaves(self, value: Value) -> bool:
        users = [mlir.user(use) for use in value.uses]
        return not all(self.is_own(user) or self.is_view(user) for user in users)

    def is_view(self, op: mlir.OpView) -> bool:
        """Whether an op only shapes what the group's sums add up."""
        users = [mlir.user(use) for value in results(op) for use in value.uses]
        inner = bool(users) and all(map(self.is_own, users))
        return op.operation.name == "stablehlo.reshape" and inner

    def replaced(self, program: RouterProgram, memory: int) -> bool:
        """Put the kernel op in the group's place, unless it needs more memory."""
        # An op's key changes with its operands: everything is looked up before that.
        outputs, late, gone = self.outputs, self.late(), self.gone()
        with mlir.InsertionPoint(self.last):
            made = program.build(outputs)
            if memory and sizes_of(made.opview).least_bytes() > memory:
                made.erase()
                return False
            for old, new in zip(outputs, made.results, strict=True):
                old.replace_all_uses_with(reshaped(new, old))
        for op in late:
            mlir.move_before(op, self.last)
        for op in gone:
            op.operation.erase()
        return True

    def late(self) -> list[mlir.OpView]:
        """Ops that stand before the group's last one and need what it makes."""
        found: set[int] = set()
        for op in self.graph.ops:
            if not self.is_own(op) and makers_of(op) & (found | self.own):
                found.add(key(op))
        before = self.graph.ops[: self.graph.ops.index(self.last)]
        return [op for op in before if key(op) in found and not self.is_view(op)]

    def gone(self) -> list[mlir.OpView]:
        """The ops that the kernel op replaces, the last one first."""
        held = (op for op in self.graph.ops if self.is_own(op) or self.is_view(op))
        return list(held)[::-1]


def makers_of(op: mlir.OpView) -> set[int]:
    """The ops that made an op's operands."""
    found = (mlir.producer(value) for value in op.operation.operands)
    return {key(made) for made in found if made is not None}


def results(op: mlir.OpView) -> list[Value]:
    return list(op.operation.results)
