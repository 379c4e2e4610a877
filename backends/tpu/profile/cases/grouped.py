"""Tokamax' grouped matmul (its first TPU kernel), run from a wheel that the caller has.

Nothing of Tokamax is kept here. Its two kernel files are imported from the import path
as they are; the three modules that they ask for quantised operands, which none of the
timed cases used has, are stood in for, so that jax is all that is needed.
"""

import importlib
import importlib.machinery
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp

_PACKAGES = (
    "tokamax",
    "tokamax._src",
    "tokamax._src.ops",
    "tokamax._src.ops.ragged_dot",
)


def grouped(
    left: Any,
    right: Any,
    sizes: Any,
    *,
    form: str,
    tiles: list[int],
    buffers: int,
    twice: bool,
) -> Any:
    """One grouped product; `tiles` are rows, contracted and output widths.

    `forward`: rows [m, k] by [g, k, n]. `rows`, their gradient: [m, n] by [g, k, n].
    `weights`, theirs: [m, k] and [m, n], with tiles of rows, k and n. With `twice` the
    result is returned twice, as Tokamax does where it keeps residuals: XLA copies it.
    """
    kernel = _kernel()
    options = {
        "group_sizes": sizes,
        "precision": (jax.lax.Precision.DEFAULT,) * 2,
        "out_dtype": jnp.bfloat16,
        "tiling": tuple(tiles),
        "input_buffer_count": buffers,
    }
    if form == "weights":
        return kernel.tgmm(left.mT, right, **options)
    done = kernel.gmm(left, right, transpose_rhs=form == "rows", **options)
    return (done, done) if twice else done


def _kernel() -> ModuleType:
    for name in _PACKAGES:
        _package(name)
    _stand_in("qwix", QArray=type("QArray", (), {}))
    _stand_in(
        "tokamax._src.quantization",
        as_array_or_qarray_without_zero_point=lambda array: array,
    )
    _stand_in("tokamax._src.ops.ragged_dot.base", ActivationFunction=Callable)
    return importlib.import_module(f"{_PACKAGES[-1]}.pallas_mosaic_tpu_kernel")


def _package(name: str) -> None:
    """The package by its place alone: its own `__init__` would import everything."""
    parent, _, last = name.rpartition(".")
    path = sys.modules[parent].__path__ if parent else None
    spec = importlib.machinery.PathFinder.find_spec(name, path)
    if spec is None or spec.submodule_search_locations is None:
        raise SystemExit(f"{name} is not in the wheel or folder that was named")
    made = ModuleType(name)
    made.__path__ = list(spec.submodule_search_locations)
    sys.modules[name] = made
    if parent:
        setattr(sys.modules[parent], last, made)


def _stand_in(name: str, **members: Any) -> None:
    made = ModuleType(name)
    made.__dict__.update(members)
    sys.modules[name] = made
    parent, _, last = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], last, made)
