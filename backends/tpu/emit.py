"""Emit: the final module as one readable Python module of Pallas kernels."""

from pathlib import Path
from typing import Any

from backends import emission
from backends.chips import CHIPS
from backends.emission import Family, grouped_matmuls, routing_constants, settle
from backends.tpu.functions import TpuFunction
from backends.tpu.schedule import vmem_limit
from ir import mlir
from ir.op import attributes_of, operand_types

_KERNELS = Path(__file__).parent / "kernels"
_SHARED = Path(__file__).parent.parent
_ROUTING = _SHARED / "cpu" / "kernels"


def emit(module: mlir.Module, chip: str, interpret: bool = False) -> str:
    """The source of the module for a chip; raises `UnsupportedByTarget`.

    With `interpret` its kernels run as plain XLA code, on any machine.
    """
    modules = (
        _SHARED / "parameters.py",
        _ROUTING / "routing.py",
        _KERNELS / "row_plan.py",
        _ROUTING / "capacity.py",
        _KERNELS / "fetch.py",
        _KERNELS / "rows.py",
        _KERNELS / "sums.py",
        _ROUTING / "combine.py",
    )

    def constants(module: mlir.Module) -> dict[str, Any]:
        return _constants(module, chip) | {"INTERPRET": interpret}

    family = Family(chip, "Pallas kernels", modules, TpuFunction, constants)
    return emission.emit(module, family)


def _constants(module: mlir.Module, chip: str) -> dict[str, Any]:
    """Values of the kernels' constants, from the ops' attributes and schedules."""
    found: dict[str, Any] = {"VMEM_LIMIT": vmem_limit(CHIPS[chip])}
    for op in mlir.walk(module.body):
        routing_constants(chip, op, found)
    for op in grouped_matmuls(module):
        told = attributes_of(op)
        settle(chip, found, TILE_ROWS=told["schedule"]["tile_rows"])
        pairs = zip(told["operands"], operand_types(op)[1:], strict=True)
        weights = [t.dtype for k, t in pairs if k == "weight" and len(t.shape) == 3]
        if weights:
            settle(chip, found, COMPUTE_DTYPE=weights[0])
    return found
