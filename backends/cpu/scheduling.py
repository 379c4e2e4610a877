"""Put the CPU's default schedule on the kernel ops of a module."""

from backends.cpu.schedule import default_schedule
from backends.emission import grouped_matmuls
from ir import mlir
from ir.kernel import product_dtype
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
    """Whether all products by weights are of bfloat16."""
    return all(product_dtype(dot) == "bfloat16" for dot in _dots(op))


def _by_columns(op: mlir.OpView) -> bool:
    """Whether all products are with transposed weights, and none sums over rows."""
    if "weight" in attributes_of(op)["results"]:
        return False
    dots = _dots(op)
    return bool(dots) and all(attributes_of(dot)["transposed"] for dot in dots)


def _dots(op: mlir.OpView) -> list[mlir.OpView]:
    body = op.operation.regions[0].blocks[0].operations
    return [inner for inner in body if inner.operation.name == "kernel.dot"]
