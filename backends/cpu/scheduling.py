"""Put the CPU's default schedule on the kernel ops of a module."""

from backends.cpu.schedule import default_schedule
from backends.emission import grouped_matmuls
from ir import mlir
from ir.op import attributes_of, operand_types
from ir.types import to_attribute


def schedule_module(module: mlir.Module, multiplies_bfloat16: bool) -> None:
    """Set `schedule` on each grouped matmul, from its shapes and products.

    Products stay in bfloat16 if the CPU multiplies it and all weights are of it.
    """
    ops = grouped_matmuls(module)
    native = multiplies_bfloat16 and all(map(_of_bfloat16, ops))
    for op in ops:
        told = attributes_of(op)
        tokens, choices = operand_types(op)[0].shape
        if tokens * choices > told["rows"]:
            tokens = -(-told["rows"] // choices)
        chosen = default_schedule(tokens * choices, _by_columns(op), native)
        fields = {
            k: list(v) if isinstance(v, tuple) else v
            for k, v in chosen._asdict().items()
        }
        op.operation.attributes["schedule"] = to_attribute(fields)


def _of_bfloat16(op: mlir.OpView) -> bool:
    """Whether all weights that an op multiplies are of bfloat16."""
    _, *operands = operand_types(op)
    kinds = attributes_of(op)["operands"]
    return all(
        tensor.dtype == "bfloat16"
        for tensor, kind in zip(operands, kinds, strict=True)
        if kind == "weight"
    )


def _by_columns(op: mlir.OpView) -> bool:
    """Whether all products are with transposed weights, and none sums over rows."""
    if "weight" in attributes_of(op)["results"]:
        return False
    body = op.operation.regions[0].blocks[0].operations
    dots = [inner for inner in body if inner.operation.name == "kernel.dot"]
    return bool(dots) and all(attributes_of(dot)["transposed"] for dot in dots)
