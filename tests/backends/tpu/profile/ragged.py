"""A function with a ragged kernel and XLA's own ops around it, to be profiled."""

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

ROWS = 128


def ragged(x: jax.Array, choice: jax.Array, weights: jax.Array) -> jax.Array:
    """Doubles the tiles of the busiest expert's rows; then a loop, and a sum."""
    sizes = jnp.bincount(choice.reshape(-1), length=weights.shape[0])
    tiles = (jnp.max(sizes) + ROWS - 1) // ROWS

    def kernel(first, x_ref, out_ref):
        out_ref[...] = x_ref[...] * (first[0] + 1).astype(jnp.float32)

    block = pl.BlockSpec((ROWS, 128), lambda i, first: (i, 0))
    doubled = pl.pallas_call(
        kernel,
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=1, grid=(tiles,), in_specs=[block], out_specs=block
        ),
        out_shape=jax.ShapeDtypeStruct(x.shape, x.dtype),
        name="doubled",
    )(jnp.minimum(sizes, 1).astype(jnp.int32), x)
    turned = jax.lax.fori_loop(0, 7, lambda _, y: jnp.tanh(y @ weights[0]), x)
    return doubled + turned
