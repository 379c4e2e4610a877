"""What the layer is measured against, in plain JAX.

Each takes weights wi [E, M, H] and wo [E, H, M] of ReLU experts, or one expert's: the
layout that plain JAX is written in, and the faster one for a dense product. The layer's
own are [E, out, in], so `in_first` turns them around before any clock runs.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def in_first(weights: jax.Array) -> jax.Array:
    """[..., out, in] -> [..., in, out], copied."""
    return jnp.swapaxes(weights, -1, -2)


def dense(x: jax.Array, wi: jax.Array, wo: jax.Array) -> jax.Array:
    """One expert for all rows: the least that products of this many FLOPs can cost."""
    return jnp.maximum(x @ wi, 0) @ wo


def ragged_dot(
    rows: jax.Array, wi: jax.Array, wo: jax.Array, sizes: jax.Array
) -> jax.Array:
    """The experts alone on rows sorted by expert, by `jax.lax.ragged_dot`."""
    hidden = jnp.maximum(jax.lax.ragged_dot(rows, wi, sizes), 0)
    return jax.lax.ragged_dot(hidden, wo, sizes)


def one_hot_einsum(
    x: jax.Array, router: jax.Array, wi: jax.Array, wo: jax.Array, k: int, capacity: int
) -> jax.Array:
    """GShard's form of the layer: one-hot dispatch and combine over a capacity.

    First choices before second ones, gates normalised before the capacity: the
    routing of the layer `glam`.
    """
    tokens, experts = x.shape[0], router.shape[1]
    logits = x.astype(jnp.float32) @ router.astype(jnp.float32)
    gates, choice = jax.lax.top_k(jax.nn.softmax(logits), k)
    gates = gates / (jnp.sum(gates, axis=-1, keepdims=True) + 1e-9)
    chosen = jax.nn.one_hot(choice.T, experts, dtype=jnp.int32)
    flat = chosen.reshape(k * tokens, experts)
    place = jnp.sum((jnp.cumsum(flat, axis=0) - 1) * flat, axis=-1).reshape(k, tokens)
    # A place at or past the capacity has no one-hot row: that choice is dropped.
    slots = jax.nn.one_hot(place, capacity, dtype=x.dtype)
    mask = jnp.einsum("kte,ktc->ktec", chosen.astype(x.dtype), slots)
    rows = jnp.einsum("ktec,tm->ecm", mask, x)
    hidden = jnp.maximum(jnp.einsum("ecm,emh->ech", rows, wi), 0)
    out = jnp.einsum("ech,ehm->ecm", hidden, wo)
    weighted = jnp.einsum("ktec,tk->tec", mask, gates.astype(x.dtype))
    return jnp.einsum("tec,ecm->tm", weighted, out)


def with_gradients(function: Callable[..., jax.Array]) -> Callable[..., Any]:
    """The function's value, and the gradients of all its arguments for a cotangent."""

    def both(cotangent: jax.Array, *arguments: jax.Array) -> Any:
        value, pull = jax.vjp(function, *arguments)
        return value, pull(cotangent.astype(value.dtype))

    return both
