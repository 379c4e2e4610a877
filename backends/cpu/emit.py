"""Emit: the final module as one readable Python module of XLA code."""

from pathlib import Path
from typing import Any

from backends import emission
from backends.cpu.functions import CpuFunction
from backends.emission import Family, grouped_matmuls, routing_constants, settle
from backends.emitted import Emitted
from ir import mlir
from ir.op import attributes_of

_KERNELS = Path(__file__).parent / "kernels"
_SHARED = Path(__file__).parent.parent


def emit(module: mlir.Module, target: str) -> Emitted:
    """The source of the module; raises `UnsupportedByTarget` for what it cannot say."""
    modules = (
        _SHARED / "parameters.py",
        _SHARED / "quantise.py",
        _SHARED / "mesh_axes.py",
        _SHARED / "first_only.py",
        _KERNELS / "routing.py",
        _KERNELS / "row_plan.py",
        _KERNELS / "capacity.py",
        _KERNELS / "products.py",
        _KERNELS / "grouped.py",
        _KERNELS / "combine.py",
    )

    def constants(module: mlir.Module) -> dict[str, Any]:
        return _constants(module, target)

    family = Family(target, "XLA code", modules, CpuFunction, constants)
    return emission.emit(module, family)


def _constants(module: mlir.Module, target: str) -> dict[str, Any]:
    """Values of the kernels' constants, from the ops' attributes and schedules."""
    found: dict[str, Any] = {}
    for op in mlir.walk(module.body):
        routing_constants(target, op, found)
    for op in grouped_matmuls(module):
        told = attributes_of(op)
        schedule = told["schedule"]
        for name in ("compute_dtype", "product_dtype"):
            settle(target, found, **{name.upper(): schedule[name]})
        found["PADDING"] = max(found.get("PADDING", 0), *schedule["tiles"])
        results = zip(told["dtypes"], told["results"], strict=True)
        dtypes = {dtype for dtype, kind in results if kind == "weight"}
        if len(dtypes) == 1:
            found["GRADIENT_DTYPE"] = dtypes.pop()
    return found
