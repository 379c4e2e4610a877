"""The compiler, as prose: from a layer function to a loaded module.

trace -> canonicalize -> derive-backward -> canonicalize -> fuse -> canonicalize
      [-> fuse-router -> cut -> canonicalize] -> schedule -> emit -> load

For inference with weights of one byte, quantise stands in derive-backward's place.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from backends.schedule_choices import (
    NO_CHOICES,
    Choices,
    require_choices,
    write_choices,
)
from backends.targets import Target, find_target
from ir import mlir
from ir.pipeline import PASSES, make_pass, run_passes
from ir.verify import verify
from moegen.cache import digest, store
from moegen.operator import Op
from moegen.signature import Layer
from moegen.trace import trace

ALL_PASSES: Mapping[str, str] = {**PASSES, "schedule": "backends.schedule:Schedule"}
ORDER = (
    "canonicalize",
    "derive-backward",
    "canonicalize",
    "fuse",
    "canonicalize",
    "schedule",
)

# For targets whose kernels hold a router, and cannot hold an expert's whole chain.
CUT = ("fuse-router", "cut", "canonicalize")

Seen = Callable[[str, mlir.Module], None]


def compile(
    layer: Layer,
    target: str = "host",
    dtype: str = "float32",
    cache: Path | str | None = None,
    on_stage: Seen | None = None,
    interpret: bool = False,
    schedule: Choices | None = None,
    weights: str | None = None,
    **sizes: Any,
) -> Op:
    """Compile a layer for a target at the given sizes.

    `dtype` is that of activations and of parameters that name none. `cache` is the
    folder of emitted modules; `on_stage(name, module)` sees the IR after each stage.
    With `interpret` an accelerator's module runs on any machine, slowly. `schedule`
    sets fields of kernels' schedules, {"grouped_rows.tile_rows": 256}; the rest follows
    from the target's model. `weights` "int8" or "fp8" stores matrices in one byte an
    element, for inference: see `Op.quantise`; the op has no gradient then. Raises a
    `LayerError` at the user's line, `UnknownTarget`, `UnsupportedByTarget`,
    `UnknownScheduleField`, `BadArgument`, `CacheUnusable`.
    """
    schedule = require_choices(schedule or {})
    chosen = find_target(target)
    chosen.require_weights(weights)
    stages: dict[str, str] = {}

    def see(name: str, module: mlir.Module) -> None:
        stages[_numbered(name, stages)] = mlir.print_module(module)
        if on_stage:
            on_stage(name, module)

    # Inside `shard_map` too a layer is the same: JAX would note the mesh in it.
    with jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((), ())):
        module = trace(layer, dtype, **sizes)
    verify(module, "after trace")
    see("trace", module)
    module = lower(module, chosen, see, schedule, weights)
    emitted = chosen.emit(module, interpret)
    folder = None if cache is None else Path(cache)
    name = mlir.string(module.operation, "sym_name")
    path = store(emitted, name, folder)
    loaded = emitted.run(f"{name}-{digest(emitted)}", str(path))
    return Op(module, stages, emitted, path, loaded, chosen.name, weights)


def lower(
    module: mlir.Module,
    target: Target,
    see: Seen,
    choices: Choices = NO_CHOICES,
    weights: str | None = None,
) -> mlir.Module:
    """Run the passes for a target; with `weights` as int8 or fp8, for inference."""
    options = {
        "fuse-router": {"memory": str(target.kernel_memory)},
        "schedule": {"target": target.name, "choices": write_choices(choices)},
        "quantise": {"dtype": str(weights)},
    }
    passes = [
        make_pass(name, options.get(name, {}), ALL_PASSES)
        for name in order_for(target, weights)
    ]
    return run_passes(module, passes, see)


def order_for(target: Target, weights: str | None = None) -> tuple[str, ...]:
    """The passes for a target, in order: weights of one byte have no backward."""
    order = (*ORDER[:-1], *CUT, ORDER[-1]) if target.cuts else ORDER
    if weights is None:
        return order
    return tuple("quantise" if p == "derive-backward" else p for p in order)


def _numbered(name: str, stages: Mapping[str, str]) -> str:
    """Passes that run more than once get a number behind their name."""
    times = sum(stage.split("#")[0] == name for stage in stages)
    return f"{name}#{times + 1}" if times else name


__all__ = ["ALL_PASSES", "ORDER", "compile", "lower", "order_for"]
