"""Which ops of a function can run together in one pass over the tokens."""

from collections.abc import Callable, Iterable, Mapping

from ir import mlir
from ir.passes.router_program import reads_of
from ir.passes.token_ops import CHOOSING, TokenOps

LEAVES = ("sum", "outer")  # known only after the last token
HEAVY = CHOOSING | {"stablehlo.dot_general"}  # never done twice

Near = Mapping[int, list[mlir.OpView]]


class TokenGraph:
    """The ops of a function by their roles and levels.

    The level of an op counts how often the path to it left the tokens: by a sum over
    them, or by an op that no block program can hold. Ops of one level can run together,
    because nothing between them has to run in between.
    """

    def __init__(self, block: mlir.Block) -> None:
        self.block = block
        self.ops = list(block.operations)
        self.known = TokenOps(block)
        self.roles = {key(op): self.known.role(op) for op in self.ops}
        self.inputs: dict[int, list[mlir.OpView]] = {}
        self.readers: dict[int, list[mlir.OpView]] = {key(op): [] for op in self.ops}
        self.levels: dict[int, int] = {}
        for op in self.ops:
            self._place(op)

    def _place(self, op: mlir.OpView) -> None:
        """Note what an op reads, and its level."""
        role = self.roles[key(op)]
        makers = (mlir.producer(v) for v, _ in reads_of(op, self.known, role))
        found = [made.opview for made in makers if made is not None]
        self.inputs[key(op)] = found
        level = 0
        for source in found:
            self.readers[key(source)].append(op)
            before = self.roles[key(source)]
            left = before in LEAVES or bool(before and not role)
            level = max(level, self.levels[key(source)] + left)
        self.levels[key(op)] = level

    def seeds(self, level: int) -> list[mlir.OpView]:
        """Products of a level that go with a choice of experts."""
        return [
            op
            for op in self.ops
            if self.levels[key(op)] == level
            and self.roles[key(op)] in ("product", "outer")
            and any(map(self.chooses, (*self.after([op]), *self.before([op]))))
        ]

    def chooses(self, op: mlir.OpView) -> bool:
        """Whether an op chooses, or stands beside one that does."""
        near = (op, *self.inputs[key(op)], *self.readers[key(op)])
        return any(each.operation.name in CHOOSING for each in near)

    def before(self, ops: Iterable[mlir.OpView]) -> list[mlir.OpView]:
        """The ops, and those of their level that they follow from."""
        return self._closure(ops, self.inputs)

    def after(self, ops: Iterable[mlir.OpView]) -> list[mlir.OpView]:
        """The ops, and those of their level that follow from them."""
        return self._closure(ops, self.readers)

    def _closure(self, ops: Iterable[mlir.OpView], near: Near) -> list[mlir.OpView]:
        def together(op: mlir.OpView) -> list[mlir.OpView]:
            level = self.levels[key(op)]
            return [o for o in near[key(op)] if self.levels[key(o)] == level]

        return self._reached(ops, together)

    def repeated(self, ops: Iterable[mlir.OpView]) -> list[mlir.OpView]:
        """Light ops that ops follow from, which can be done again beside them."""
        first = {key(op) for op in ops}

        def light(op: mlir.OpView) -> list[mlir.OpView]:
            inputs = self.inputs[key(op)]
            return [o for o in inputs if o.operation.name not in HEAVY]

        found = self._reached(ops, light)
        return [
            op
            for op in found
            if key(op) not in first and self.roles[key(op)] not in LEAVES
        ]

    def _reached(
        self,
        ops: Iterable[mlir.OpView],
        near: Callable[[mlir.OpView], list[mlir.OpView]],
    ) -> list[mlir.OpView]:
        waiting, found = list(ops), dict[int, mlir.OpView]()
        while waiting:
            op = waiting.pop()
            if key(op) in found:
                continue
            found[key(op)] = op
            waiting += [o for o in near(op) if self.roles[key(o)]]
        return list(found.values())


def key(op: mlir.OpView | mlir.Operation) -> int:
    """Equal for every wrapper of one op, until its operands change."""
    return hash(op.operation)
