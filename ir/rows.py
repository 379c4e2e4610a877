"""Which values of a function are rows, and of which choice."""

from ir import mlir

# Position of the choice among the operands of each op that makes or takes rows.
CHOICE_OPERAND = {
    "moe.dispatch": 1,
    "moe.dispatch_choices": 1,
    "moe.expert_matmul": 2,
    "moe.expert_outer": 2,
    "moe.expert_bias": 1,
    "moe.expert_sum": 1,
    "moe.combine": 1,
    "moe.collect": 1,
}
MAKES_ROWS = {
    "moe.dispatch",
    "moe.dispatch_choices",
    "moe.expert_matmul",
    "moe.expert_bias",
}
_TAKES_ROWS = {"moe.expert_outer", "moe.expert_sum", "moe.combine", "moe.collect"}
LEAVES_ROWS = {"moe.combine", "moe.collect"}
# Ops that stay among rows if an operand is rows.
_SPREADS = {"stablehlo.broadcast_in_dim"}  # of a scalar, perhaps
FOLLOWS = {"moe.map", "moe.row_dot", "moe.row_sum"} | _SPREADS


def row_choices(block: mlir.Block) -> dict[mlir.Value, mlir.Value]:
    """The choice behind every value of a block that is rows.

    Arguments that hold rows, kept by the forward function, take the choice of the ops
    that use them beside rows, or make rows of them alone.
    """
    found: dict[mlir.Value, mlir.Value] = {}
    known = -1
    while len(found) > known:  # until no use tells of more arguments
        known = len(found)
        _look_once(block, found)
    return found


def _look_once(block: mlir.Block, found: dict[mlir.Value, mlir.Value]) -> None:
    for op in block.operations:
        name, operands = op.operation.name, list(op.operation.operands)
        results = list(op.operation.results)
        if name in MAKES_ROWS:
            choice = operands[CHOICE_OPERAND[name]]
            found.update((result, choice) for result in results)
            _adopt(found, operands[:1] if name == "moe.expert_matmul" else [], choice)
        elif name in _TAKES_ROWS:
            choice = operands[CHOICE_OPERAND[name]]
            _adopt(found, operands[: CHOICE_OPERAND[name]], choice)
        elif name in FOLLOWS:
            known = [*operands] if name in _SPREADS else [*operands, *results]
            choices = [found[value] for value in known if value in found]
            if choices:
                found.update((result, choices[0]) for result in results)
                _adopt(found, operands, choices[0])


def _adopt(
    found: dict[mlir.Value, mlir.Value], operands: list[mlir.Value], choice: mlir.Value
) -> None:
    for value in operands:
        found.setdefault(value, choice)
