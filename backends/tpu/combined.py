"""What a combine's kernel leaves: float32, or what all that is read of it becomes."""

from ir import mlir
from ir.op import operand_types, result_types


def combined_dtype(combine: mlir.OpView) -> str:
    """The dtype that a combine's kernel leaves: what all that is read of it becomes."""
    (result,) = combine.operation.results
    users = [mlir.user(use) for use in result.uses]
    if len(users) == 1 and _converts(users[0]):
        return result_types(users[0])[0].dtype
    return result_types(combine)[0].dtype


def rounds_combined(op: mlir.OpView) -> bool:
    """Whether an op converts what a combine's kernel leaves converted."""
    if not _converts(op):
        return False
    (operand,) = op.operation.operands
    made = mlir.producer(operand)
    if made is None or made.name != "kernel.combine" or len(list(operand.uses)) > 1:
        return False
    return "schedule" in mlir.attributes(made)


def _converts(op: mlir.OpView) -> bool:
    """Whether an op is a conversion from float32 to bfloat16 and nothing else."""
    if op.operation.name != "moe.map" or len(op.operation.operands) != 1:
        return False
    first, *others = op.operation.regions[0].blocks[0].operations
    kinds = operand_types(op)[0].dtype, result_types(op)[0].dtype
    alone = first.operation.name == "stablehlo.convert" and len(others) == 1
    return alone and kinds == ("float32", "bfloat16")
