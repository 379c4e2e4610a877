"""Put the CPU's default schedule on the kernel ops of a module."""

from backends.cpu.schedule import default_schedule
from ir import mlir
from ir.op import attributes_of, operand_types
from ir.types import to_attribute


def schedule_module(module: mlir.Module) -> None:
    """Set `schedule` on each grouped matmul, from its shapes and dtypes."""
    for op in mlir.walk(module.body):
        if op.operation.name != "kernel.grouped_matmul":
            continue
        told = attributes_of(op)
        plan, *operands = operand_types(op)
        weights = [
            t for t, k in zip(operands, told["operands"], strict=True) if k == "weight"
        ]
        widths = max(
            (t.shape[1:] for t in weights if len(t.shape) == 3), default=(1, 1)
        )
        dtype = weights[0].dtype if weights else "float32"
        tokens, choices = plan.shape
        if tokens * choices > told["rows"]:
            tokens = -(-told["rows"] // choices)
        chosen = default_schedule(tokens, choices, told["experts"], widths, dtype)
        fields = {
            k: list(v) if isinstance(v, tuple) else v
            for k, v in chosen._asdict().items()
        }
        op.operation.attributes["schedule"] = to_attribute(fields)
