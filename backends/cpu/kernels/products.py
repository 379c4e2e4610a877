"""The products an expert's body is made of, with or without a leading expert axis."""

import jax
import jax.numpy as jnp
from jax import lax

FEW_ROWS = 2  # so few rows are multiplied while the weights are read, uncopied
MOST_TERMS = 8  # products that one pass over the weights adds up, at most
LEAST_TERMS = 4


def expert_dot(rows: jax.Array, weights: jax.Array) -> jax.Array:
    """[..., C, A] rows by [..., A, B] weights."""
    terms = next(t for t in range(MOST_TERMS, 0, -1) if rows.shape[-1] % t == 0)
    if rows.ndim == 2 and rows.shape[0] <= FEW_ROWS and terms >= LEAST_TERMS:
        return sum_of_terms(rows, weights, terms)
    return jnp.matmul(rows, weights)


def sum_of_terms(rows: jax.Array, weights: jax.Array, terms: int) -> jax.Array:
    """`rows @ weights` for few rows, bound by reading the weights once a row.

    A product would have the weights' slice copied for it. Sums of `terms` products,
    each with another part of the weights, are elementwise, so XLA fuses the slice (and
    its cast) into them, and splits the places within a part over the cores.
    """
    count, width = weights.shape
    weights = weights.reshape(terms, count // terms, width)
    rows = rows.reshape(rows.shape[0], terms, count // terms, 1)
    total = rows[:, 0] * weights[0]
    for i in range(1, terms):
        total = total + rows[:, i] * weights[i]
    # Without the barrier the sum over places takes in half of the above.
    return jnp.sum(lax.optimization_barrier(total), axis=1)


def expert_dot_t(rows: jax.Array, weights: jax.Array) -> jax.Array:
    """[..., C, A] rows by the transpose of [..., B, A] weights."""
    return jnp.matmul(rows, weights.mT)


def expert_outer(left: jax.Array, right: jax.Array) -> jax.Array:
    """[..., A, B]: the sum over rows of [..., C, A] by [..., C, B]."""
    return jnp.matmul(left.mT, right)
