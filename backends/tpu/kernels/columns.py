"""Choosing experts where tokens lie along the lanes: [experts or choices, tokens].

A token's numbers are a column. So sums and maxima over experts are taken down the
sublanes, element by element, and one number a token is a line that fills its lanes.

N tokens, E experts, K choices a token; a choice of -1 is dropped.
"""

import jax
import jax.numpy as jnp
from jax import lax

NAN_RANK = 2**31 - 1  # ranks before every number: a NaN
TAKEN = -(2**31)  # ranks behind every number: taken already


def column_softmax(logits: jax.Array) -> jax.Array:
    """float32[E, N]: softmax over the experts."""
    shifted = logits - jnp.max(logits, axis=0, keepdims=True)
    weights = jnp.exp(shifted.astype(jnp.float32))
    return weights / jnp.sum(weights, axis=0, keepdims=True)


def column_softmax_grad(scores: jax.Array, d_scores: jax.Array) -> jax.Array:
    """The logits' cotangent [E, N] from the scores and theirs."""
    return scores * (d_scores - jnp.sum(d_scores * scores, axis=0, keepdims=True))


def column_top_k(scores: jax.Array, k: int) -> jax.Array:
    """int32[k, N]: the k best experts; ties go to the lower index, NaN comes first."""
    rank = ranks(scores)
    expert = lax.broadcasted_iota(jnp.int32, rank.shape, 0)
    found = []
    for _ in range(k):
        best = jnp.max(rank, axis=0, keepdims=True)
        first = jnp.where(rank == best, expert, rank.shape[0])
        found.append(jnp.min(first, axis=0, keepdims=True))
        rank = jnp.where(expert == found[-1], TAKEN, rank)
    return jnp.concatenate(found, axis=0)


def ranks(scores: jax.Array) -> jax.Array:
    """int32 in the order of the scores; -0.0 and 0.0 are equal."""
    bits = lax.bitcast_convert_type(scores.astype(jnp.float32), jnp.int32)
    ordered = jnp.where(bits < 0, bits ^ NAN_RANK, bits)
    ordered = jnp.where(scores == 0, 0, ordered)
    return jnp.where(jnp.isnan(scores), NAN_RANK, ordered)


def column_take(scores: jax.Array, choice: jax.Array) -> jax.Array:
    """[K, N]: the scores of the chosen experts, 0 for a dropped choice."""
    expert = lax.broadcasted_iota(jnp.int32, scores.shape, 0)
    taken = [
        jnp.sum(jnp.where(expert == one, scores, 0), axis=0, keepdims=True)
        for one in lines(choice)
    ]
    return jnp.concatenate(taken, axis=0)


def column_put(values: jax.Array, choice: jax.Array, experts: int) -> jax.Array:
    """[E, N]: zeros, with each choice's value added at its expert."""
    shape = experts, values.shape[1]
    expert = lax.broadcasted_iota(jnp.int32, shape, 0)
    total = jnp.zeros(shape, values.dtype)
    for one, value in zip(lines(choice), lines(values), strict=True):
        total += jnp.where(expert == one, value, 0)
    return total


def column_count(choice: jax.Array, experts: int) -> jax.Array:
    """int32[E, N]: how many of a token's choices each expert has."""
    return column_put(jnp.ones_like(choice), choice, experts)


def lines(columns: jax.Array) -> list[jax.Array]:
    """The lines [1, N] of [K, N]."""
    return [columns[k : k + 1] for k in range(columns.shape[0])]


def stacked(parts: list[jax.Array]) -> jax.Array:
    """Columns of several [W, N], one above the other."""
    if parts[0].dtype != jnp.bool_:
        return jnp.concatenate(parts, axis=0)
    return jnp.concatenate([part.astype(jnp.int32) for part in parts], axis=0) != 0
