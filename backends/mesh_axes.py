"""Arguments inside `shard_map`: all vary over the same mesh axes."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


def vary_alike(arguments: Any) -> Any:
    """The arguments, each varying over every mesh axis that one of them varies over.

    So a gradient varies as its argument does, and JAX sums the gradients of what was
    the same on several devices. Outside `shard_map` nothing varies.
    """
    # Arrays of NumPy will do: kernels index them with traced values.
    arrays, tree = jax.tree.flatten(jax.tree.map(jnp.asarray, arguments))
    varying = [jax.typeof(array).manual_axis_type.varying for array in arrays]
    axes = frozenset().union(*varying)
    spread = [
        lax.pcast(array, tuple(sorted(axes - own)), to="varying")
        if axes - own
        else array
        for array, own in zip(arrays, varying, strict=True)
    ]
    return jax.tree.unflatten(tree, spread)
