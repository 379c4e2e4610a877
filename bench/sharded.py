"""GLaM 64B/64E's expert layer on 1,024 TPU v4 chips, compiled ahead of time.

Experts lie over 64 devices and the hidden width over 16: tokens go to their experts by
an all-to-all, the emitted layer runs on each device's share, and a reduce-scatter adds
up the shares of the hidden width. No device is needed.
Run as `python -m bench.sharded`.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping
from typing import Any

from tabulate import tabulate

# libtpu reads these when it starts.
_QUIET = {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
LIMIT = 60.0  # seconds to compile in
EXPERTS, HIDDEN = 64, 16  # devices


def sharded(op: Any, mesh: Any, tokens: int, checked: bool = True) -> Any:
    """The sum of the layer's output, as a function of (parameters, x) on a mesh.

    `op` is compiled for one expert of a device's share of the hidden width, and for
    `tokens` tokens; the mesh has the axes "experts" and "hidden". `checked` is
    `shard_map`'s check_vma, which interpreted kernels do not take.
    """
    import jax
    import jax.numpy as jnp
    from jax.sharding import PartitionSpec

    def share(params: Mapping[str, jax.Array], x: jax.Array) -> Any:
        rows = jax.lax.all_to_all(x, "experts", 0, 0, tiled=True)
        y, _ = op.loaded.layer(dict(params), rows, jnp.ones(tokens, bool))
        y = jax.lax.psum_scatter(y, "hidden", scatter_dimension=1, tiled=True)
        weights = 1 + jnp.arange(y.shape[1], dtype=jnp.float32)
        total = jnp.sum(y.astype(jnp.float32) * weights)
        return jax.lax.psum(total, ("experts", "hidden"))

    specs = parameter_specs(), PartitionSpec("experts", None)
    return jax.shard_map(
        share, mesh=mesh, in_specs=specs, out_specs=PartitionSpec(), check_vma=checked
    )


def parameter_specs() -> dict[str, Any]:
    """How each parameter of `glam` lies on the mesh."""
    from jax.sharding import PartitionSpec

    return {
        "router": PartitionSpec(),
        "wi": PartitionSpec("experts", "hidden", None),
        "wo": PartitionSpec("experts", None, "hidden"),
    }


def compiled(tokens: int, model: int, hidden: int) -> list[dict[str, Any]]:
    """Compile time and memory, forward and with gradients, on v4:8x8x16."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    from jax.experimental import topologies
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    import moegen
    from moegen.layers import find_layer

    sizes: dict[str, Any] = {"tokens": tokens, "model": model}
    sizes |= {"hidden": hidden // HIDDEN, "experts": 1, "k": 1, "capacity_factor": 1.0}
    op = moegen.compile(find_layer("glam"), "tpu-v4", "bfloat16", **sizes)
    chips = topologies.get_topology_desc(
        platform="tpu", topology_name="v4:8x8x16", chip_config_name="megacore"
    )
    devices: Any = np.array(chips.devices).reshape(EXPERTS, HIDDEN)
    mesh = Mesh(devices, ("experts", "hidden"))

    def described(shape: tuple[int, ...], dtype: Any, spec: Any) -> Any:
        sharding = NamedSharding(mesh, spec)
        return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)

    shapes = {
        "router": ((model, 1), jnp.float32),
        "wi": ((EXPERTS, hidden, model), jnp.bfloat16),
        "wo": ((EXPERTS, model, hidden), jnp.bfloat16),
    }
    specs = parameter_specs()
    params = {n: described(*told, specs[n]) for n, told in shapes.items()}
    spread = PartitionSpec("experts", None)
    x = described((EXPERTS * tokens, model), jnp.bfloat16, spread)
    forward = sharded(op, mesh, tokens)
    gradients = jax.value_and_grad(forward, argnums=(0, 1))
    rows = []
    for name, function in (("forward", forward), ("training", gradients)):
        start = time.perf_counter()
        lowered = jax.jit(function).trace(params, x).lower(lowering_platforms=("tpu",))
        program = lowered.compile()
        seconds = time.perf_counter() - start
        memory = program.memory_analysis()
        rows.append(
            {
                "pass": name,
                "chips": EXPERTS * HIDDEN,
                "lower and compile s": seconds,
                "arguments GB": memory.argument_size_in_bytes / 1e9,
                "temporaries GB": memory.temp_size_in_bytes / 1e9,
            }
        )
    return rows


def main(arguments: list[str]) -> int:
    """Print a table, or JSON; 1 if a program took too long to compile."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.sharded", description=__doc__
    )
    parser.add_argument("--tokens", type=int, default=1024, help="of a device")
    parser.add_argument("--model", type=int, default=8192)
    parser.add_argument("--hidden", type=int, default=32768)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    os.environ.update(_QUIET)
    rows = compiled(given.tokens, given.model, given.hidden)
    if given.json:
        print(json.dumps({"rows": rows, "obtained": "compiled ahead of time"}))
    else:
        print(tabulate(rows, headers="keys", floatfmt=".2f"))
        print("\ncompiled ahead of time by libtpu for v4:8x8x16, check_vma=True")
    return 0 if all(row["lower and compile s"] < LIMIT for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
