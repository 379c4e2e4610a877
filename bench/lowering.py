"""A training step of GLaM, traced and lowered for an abstract mesh: seconds and size.

The step is the objective, its gradient and a plain gradient step; parameters lie over
the mesh as in GSPMD's two-dimensional scheme. No device is needed, nothing is
compiled. The program must depend on neither layers nor experts but for the numbers in
it: all have the same number of lines of StableHLO.
Run as `python -m bench.lowering`.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tabulate import tabulate

from glam.model import Config

LIMIT = 10.0  # seconds of this process to trace and lower in
DATA, MODEL = 64, 16  # devices
# Two a data shard; as many as experts would make the balance loss' factor E/G a 1,
# which the compiler leaves out.
GROUPS = 2 * DATA
SEQUENCES = 1024  # of 1,024 tokens: about a million a step
# Which mesh axis splits an axis of the parameters, if it divides it; others lie whole.
SPLIT: Mapping[str, str] = {
    "experts": "data",
    "vocabulary": "model",
    "hidden": "model",
    "heads": "model",
}


def lowered(config: Config, sequences: int = SEQUENCES) -> dict[str, Any]:
    """Seconds to trace and lower one step, and the lines of its StableHLO text."""
    import jax
    import jax.numpy as jnp
    from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec

    from glam.model import abstract, axes, is_axes, loss

    kinds = (AxisType.Auto, AxisType.Auto)
    mesh = AbstractMesh((DATA, MODEL), ("data", "model"), axis_types=kinds)

    def placed(shape: Any, *wanted: str | None) -> Any:
        sizes = zip(shape.shape, wanted, strict=False)
        spec = [
            axis if axis and size % mesh.shape[axis] == 0 else None
            for size, axis in sizes
        ]
        sharding = NamedSharding(mesh, PartitionSpec(*spec))
        return jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=sharding)

    def step(params: Any, batch: Any) -> Any:
        gradient = jax.grad(lambda params: loss(config, params, batch), has_aux=True)
        grads, metrics = gradient(params)
        return jax.tree.map(lambda p, g: p - 0.01 * g, params, grads), metrics

    start, used = time.perf_counter(), time.process_time()
    names = jax.tree.map(
        lambda names: tuple(SPLIT.get(name) for name in names),
        axes(config),
        is_leaf=is_axes,
    )
    params = jax.tree.map(
        lambda shape, spec: placed(shape, *spec), abstract(config), names
    )
    tokens = jax.ShapeDtypeStruct((sequences, config.sequence), jnp.int32)
    batch = {n: placed(tokens, "data") for n in ("inputs", "targets", "segments")}
    program = jax.jit(step).trace(params, batch).lower(lowering_platforms=("cpu",))
    seconds, used = time.perf_counter() - start, time.process_time() - used
    return {
        "layers": config.layers,
        "experts": config.experts,
        "seconds": seconds,
        "CPU seconds": used,
        "lines": program.as_text().count("\n"),
    }


def main(arguments: list[str]) -> int:
    """Print a table, or JSON; 1 if a step took too long or the programs differ."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.lowering", description=__doc__
    )
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    base = replace(Config.of("64B/64E"), groups=GROUPS, remat="all")
    variants = ((2, 8), (64, 8), (2, 256), (64, 256), (64, 64))
    rows = [lowered(replace(base, layers=n, experts=e)) for n, e in variants]
    if given.json:
        print(json.dumps({"rows": rows, "obtained": "traced and lowered, not run"}))
    else:
        print(tabulate(rows, headers="keys", floatfmt=".2f"))
        print(
            f"\nGLaM 64B/64E and variants, abstract mesh of {DATA} x {MODEL}; lowered"
        )
    equal = len({row["lines"] for row in rows}) == 1
    return 0 if equal and all(row["CPU seconds"] < LIMIT for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
