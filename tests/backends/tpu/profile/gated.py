"""A ragged kernel with weights of one byte and a sigmoid, to be profiled."""

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

ROWS = 128


def gated(x: jax.Array, sizes: jax.Array, weights: jax.Array) -> jax.Array:
    """silu(x @ weights[0]) in float32, over the tiles of the busiest expert's rows."""
    tiles = (jnp.max(sizes) + ROWS - 1) // ROWS

    def kernel(_, x_ref, weights_ref, out_ref):
        widened = weights_ref[0].astype(x_ref.dtype)
        product = jnp.dot(x_ref[...], widened, preferred_element_type=jnp.float32)
        out_ref[...] = jax.nn.silu(product)

    rows = pl.BlockSpec((ROWS, 128), lambda i, _: (i, 0))
    held = pl.BlockSpec((1, 128, 128), lambda i, _: (0, 0, 0))
    return pl.pallas_call(
        kernel,
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=1, grid=(tiles,), in_specs=[rows, held], out_specs=rows
        ),
        out_shape=jax.ShapeDtypeStruct(x.shape, jnp.float32),
        name="gated",
    )(sizes, x, weights)
