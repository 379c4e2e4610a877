"""Put schedules on the kernel ops of a module: a chosen tile, then the CPU's model."""

from typing import Any

from backends.cpu.schedule import TILES, default_schedule
from backends.emission import function_matmuls, grouped_matmuls
from backends.schedule_choices import Choices, chosen_fields, unused_choices
from ir import mlir
from ir.errors import IllegalSchedule, UnknownScheduleField
from ir.kernel import product_dtype
from ir.op import attributes_of, operand_types
from ir.types import to_attribute

# The rows of the one tile that an expert's rows are then all run in. A row's bits do
# not depend on how many rows its expert has: XLA's products differ from one number of
# rows to another.
TILE = "tile_rows"


def schedule_module(
    module: mlir.Module, target: str, multiplies_bfloat16: bool, choices: Choices
) -> None:
    """Set `schedule` on each grouped matmul, from its shapes and products.

    Products stay in bfloat16 if the CPU multiplies it and all weights are of it.
    Raises `IllegalSchedule`, `UnknownScheduleField`.
    """
    native = multiplies_bfloat16 and all(map(_of_bfloat16, grouped_matmuls(module)))
    names = []
    for function, held in mlir.functions(module).items():
        for number, op in enumerate(function_matmuls(held)):
            names.append(f"{function}.grouped_matmul.{number}")
            chosen = chosen_fields(names[-1], (TILE,), choices)
            fields = _schedule(op, native) | _tiles(names[-1], chosen, target)
            op.operation.attributes["schedule"] = to_attribute(fields)
    unused = unused_choices({name: (TILE,) for name in names}, choices)
    if unused:
        listed = ", ".join(names) or "none"
        have = f"its kernels are {listed}: grouped_matmul has {TILE}"
        raise UnknownScheduleField(name=unused[0], target=target, have=have)


def _schedule(op: mlir.OpView, native: bool) -> dict[str, Any]:
    """The model's own schedule."""
    told = attributes_of(op)
    tokens, choices = operand_types(op)[0].shape
    if tokens * choices > told["rows"]:
        tokens = -(-told["rows"] // choices)
    fields = default_schedule(tokens * choices, _by_columns(op), native)._asdict()
    return {k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}


def _tiles(kernel: str, chosen: dict[str, Any], target: str) -> dict[str, Any]:
    """The one tile that is chosen, if one is."""
    if TILE not in chosen:
        return {}
    rows, most = chosen[TILE], TILES[-1]
    if isinstance(rows, bool) or not 1 <= rows <= most:
        raise IllegalSchedule(
            kernel=kernel,
            chip=target,
            field=TILE,
            value=str(rows).lower(),
            reason=f"a tile has 1 to {most} rows",
            fix=f"use {TILE}=16, or leave it out",
        )
    return {"tiles": [rows]}


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
