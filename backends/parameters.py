"""The layer's parameters, and how they start."""

import jax
import jax.numpy as jnp

# name: shape, dtype, distribution, scale (half-width, deviation or value)
PARAMETERS = {"w": ((8, 16), "float32", "uniform", 0.25)}


def init(key: jax.Array) -> dict[str, jax.Array]:
    """Fresh parameters, each drawn with a key of its own."""
    params = {}
    for index, (name, told) in enumerate(PARAMETERS.items()):
        shape, dtype, kind, scale = told
        own = jax.random.fold_in(key, index)
        if kind == "constant":
            values = jnp.full(shape, scale, jnp.float32)
        elif kind == "normal":
            values = scale * jax.random.normal(own, shape, jnp.float32)
        else:
            values = jax.random.uniform(own, shape, jnp.float32, -scale, scale)
        params[name] = values.astype(dtype)
    return params
