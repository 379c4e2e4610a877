"""What a router needs beside sums and products: softmax, choices, their scores.

T tokens, E experts, K choices a token; a choice of -1 is dropped.
"""

import jax
import jax.numpy as jnp
from jax import lax


def softmax(logits: jax.Array) -> jax.Array:
    """Softmax over the last axis, in float32."""
    shifted = logits - jnp.max(logits, axis=-1, keepdims=True)
    weights = jnp.exp(shifted.astype(jnp.float32))
    return weights / jnp.sum(weights, axis=-1, keepdims=True)


def softmax_grad(scores: jax.Array, d_scores: jax.Array) -> jax.Array:
    """The logits' cotangent from the scores and theirs."""
    inner = jnp.sum(d_scores * scores, axis=-1, keepdims=True)
    return scores * (d_scores - inner)


def top_k(scores: jax.Array, k: int) -> jax.Array:
    """int32[T, k]: the k best experts of each token; ties go to the lower index."""
    return lax.top_k(scores, k)[1].astype(jnp.int32)


def expert_choice(scores: jax.Array, capacity: int) -> jax.Array:
    """int32[T, E]: e where expert e is among its `capacity` best tokens, else -1."""
    experts = scores.shape[1]
    # A NaN ranks last: a poisoned token must not take another token's place.
    ranked = jnp.where(jnp.isnan(scores), -jnp.inf, scores)
    tokens = lax.top_k(ranked.T, capacity)[1]
    columns = lax.broadcasted_iota(jnp.int32, tokens.shape, 0)
    empty = jnp.full(scores.shape, -1, jnp.int32)
    expert = lax.broadcasted_iota(jnp.int32, (experts, capacity), 0)
    return empty.at[tokens, columns].set(expert, unique_indices=True)


def hash_choice(ids: jax.Array, experts: int, k: int, seed: int) -> jax.Array:
    """int32[T, k]: fixed pseudo-random experts of each token id."""
    seeds = jnp.arange(seed, seed + k, dtype=jnp.uint32) * jnp.uint32(40503)
    mixed = ids.astype(jnp.uint32)[:, None] * jnp.uint32(2654435761) + seeds
    return ((mixed >> 8) % jnp.uint32(experts)).astype(jnp.int32)


def take(scores: jax.Array, choice: jax.Array) -> jax.Array:
    """[T, K]: the scores of the chosen experts, 0 for a dropped choice."""
    taken = jnp.take_along_axis(scores, jnp.maximum(choice, 0), axis=1)
    return jnp.where(choice >= 0, taken, 0)


def put(values: jax.Array, choice: jax.Array, experts: int) -> jax.Array:
    """[T, E]: zeros, with each choice's value added at its expert."""
    tokens = lax.broadcasted_iota(jnp.int32, choice.shape, 0)
    # Out of bounds is dropped; -1 would count from the end.
    column = jnp.where(choice >= 0, choice, experts)
    zeros = jnp.zeros((choice.shape[0], experts), values.dtype)
    return zeros.at[tokens, column].add(values, mode="drop")


def count(choice: jax.Array, experts: int, groups: int) -> jax.Array:
    """int32[groups, E]: how many choices each expert has in each group of tokens."""
    size = choice.shape[0] // groups
    group = lax.broadcasted_iota(jnp.int32, choice.shape, 0) // size
    column = jnp.where(choice >= 0, choice, experts)
    zeros = jnp.zeros((groups, experts), jnp.int32)
    return zeros.at[group, column].add(1, mode="drop")
