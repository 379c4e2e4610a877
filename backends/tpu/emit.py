"""Emit: the final module as a readable package: the layer, and its Pallas kernels."""

from pathlib import Path
from typing import Any

from backends import emission
from backends.chips import CHIPS
from backends.emission import Family, grouped_matmuls, routing_constants, settle
from backends.emitted import Emitted
from backends.tpu.functions import TpuFunction
from backends.tpu.narrow import narrow_way
from backends.tpu.schedule import cores, vmem_limit
from backends.tpu.storage import compute_dtype, matrix_dtype
from ir import mlir
from ir.op import attributes_of

_KERNELS = Path(__file__).parent / "kernels"
_SHARED = Path(__file__).parent.parent
_ROUTING = _SHARED / "cpu" / "kernels"


def emit(module: mlir.Module, chip: str, interpret: bool = False) -> Emitted:
    """The package of the module for a chip; raises `UnsupportedByTarget`.

    With `interpret` its kernels run as plain XLA code, on any machine.
    """
    modules = (
        _SHARED / "parameters.py",
        _SHARED / "quantise.py",
        _SHARED / "mesh_axes.py",
        _SHARED / "first_only.py",
        _ROUTING / "routing.py",
        _KERNELS / "row_plan.py",
        _ROUTING / "capacity.py",
        _KERNELS / "words.py",
        _KERNELS / "chunks.py",
        _KERNELS / "copies.py",
        _KERNELS / "result_type.py",
        _KERNELS / "row_blocks.py",
        _KERNELS / "rows.py",
        _KERNELS / "fetch.py",
        _KERNELS / "sums.py",
        _KERNELS / "combine_rows.py",
        _KERNELS / "token_words.py",
        _KERNELS / "columns.py",
        _KERNELS / "exact.py",
        _KERNELS / "router_blocks.py",
        _KERNELS / "router.py",
        _ROUTING / "combine.py",
    )

    def constants(module: mlir.Module) -> dict[str, Any]:
        return _constants(module, chip) | {"INTERPRET": interpret}

    code = "Pallas kernels"
    family = Family(chip, code, modules, TpuFunction, constants, in_files=True)
    return emission.emit(module, family)


def _constants(module: mlir.Module, chip: str) -> dict[str, Any]:
    """Values of the kernels' constants, from the ops' attributes and schedules."""
    told_chip = CHIPS[chip]
    compute = compute_dtype(module.operation)
    found: dict[str, Any] = {
        "VMEM_LIMIT": vmem_limit(told_chip),
        "CORES": cores(told_chip),
        "COMPUTE_DTYPE": compute,
        "NARROW": narrow_way(matrix_dtype(module.operation), compute, told_chip),
    }
    for op in mlir.walk(module.body):
        routing_constants(chip, op, found)
        if op.operation.name == "kernel.combine":
            schedule = attributes_of(op).get("schedule")
            if schedule:
                settle(chip, found, COMBINED_TOKENS=schedule["step_tokens"])
    for op in grouped_matmuls(module):
        schedule = attributes_of(op)["schedule"]
        for name in ("tile_rows", "chunk_rows"):
            settle(chip, found, **{name.upper(): schedule[name]})
    return found
