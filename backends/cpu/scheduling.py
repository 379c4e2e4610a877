"""Put the CPU's default schedule on the kernel ops of a module."""

from backends.cpu.schedule import default_schedule
from ir import mlir
from ir.op import attributes_of, operand_types
from ir.types import to_attribute


def schedule_module(module: mlir.Module) -> None:
    """Set `schedule` on each grouped matmul, from its shapes and products."""
    for op in mlir.walk(module.body):
        if op.operation.name != "kernel.grouped_matmul":
            continue
        told = attributes_of(op)
        tokens, choices = operand_types(op)[0].shape
        if tokens * choices > told["rows"]:
            tokens = -(-told["rows"] // choices)
        chosen = default_schedule(tokens * choices, _by_columns(op))
        fields = {
            k: list(v) if isinstance(v, tuple) else v
            for k, v in chosen._asdict().items()
        }
        op.operation.attributes["schedule"] = to_attribute(fields)


def _by_columns(op: mlir.OpView) -> bool:
    """Whether all products are with transposed weights, and none sums over rows."""
    if "weight" in attributes_of(op)["results"]:
        return False
    body = op.operation.regions[0].blocks[0].operations
    dots = [inner for inner in body if inner.operation.name == "kernel.dot"]
    return bool(dots) and all(attributes_of(dot)["transposed"] for dot in dots)
