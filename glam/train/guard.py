"""A step whose loss or gradients hold NaN or Inf changes nothing (section 5.1)."""

from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
import optax


def all_finite(tree: Any) -> jax.Array:
    """bool[]: no floating-point leaf of `tree` holds NaN or Inf."""
    checks = [
        jnp.isfinite(leaf).all()
        for leaf in jax.tree.leaves(tree)
        if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)
    ]
    return reduce(jnp.logical_and, checks, jnp.asarray(True))


def guarded_update(
    optimizer: optax.GradientTransformation,
    loss: jax.Array,
    gradients: Any,
    state: Any,
    params: Any,
) -> tuple[Any, Any, jax.Array]:
    """(params, state, skipped bool[]) after one step of the optimizer.

    Where the loss f32[] or a gradient is not finite, both come back bit-equal, with
    them the optimizer's count of steps.
    """

    def step() -> tuple[Any, Any]:
        updates, after = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), after

    healthy = all_finite((loss, gradients))
    new_params, new_state = jax.lax.cond(healthy, step, lambda: (params, state))
    return new_params, new_state, ~healthy
