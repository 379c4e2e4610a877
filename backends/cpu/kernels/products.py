"""The products an expert's body is made of: rows [C, A] by one expert's weights."""

import jax
import jax.numpy as jnp
from jax import lax

MOST_TERMS = 8  # products that one pass over the weights adds up, at most
LEAST_TERMS = 4
UNPACKED_ROWS = 64  # so many columns XLA multiplies without packing the left operand


def expert_dot(rows: jax.Array, weights: jax.Array) -> jax.Array:
    """[C, A] rows by [A, B] weights."""
    terms = next(t for t in range(MOST_TERMS, 0, -1) if rows.shape[1] % t == 0)
    if rows.shape[0] == 1 and terms >= LEAST_TERMS:
        return sum_of_terms(rows, weights, terms)
    return jnp.matmul(rows, weights)


def sum_of_terms(row: jax.Array, weights: jax.Array, terms: int) -> jax.Array:
    """`row @ weights` for one row, bound by reading the weights.

    A product would have the weights' slice copied for it. Sums of `terms` products,
    each with another part of the weights, are elementwise, so XLA fuses the slice (and
    its cast) into them, and splits the places within a part over the cores.
    """
    count, width = weights.shape
    weights = weights.reshape(terms, count // terms, width)
    row = row.reshape(terms, count // terms, 1)
    total = row[0] * weights[0]
    for i in range(1, terms):
        total = total + row[i] * weights[i]
    # Without the barrier the sum over places takes in half of the above.
    return jnp.sum(lax.optimization_barrier(total), axis=0, keepdims=True)


def expert_dot_t(rows: jax.Array, weights: jax.Array) -> jax.Array:
    """[C, A] rows by the transpose of [B, A] weights."""
    if rows.shape[0] > UNPACKED_ROWS:
        return jnp.matmul(rows, weights.T)
    # XLA packs the right operand for every product: let that be the few rows. The
    # barriers keep it from folding the transposes into the product.
    columns = lax.optimization_barrier(rows.T)
    return lax.optimization_barrier(weights @ columns).T


def expert_outer(left: jax.Array, right: jax.Array) -> jax.Array:
    """[A, B]: the sum over rows of [C, A] by [C, B]."""
    return jnp.matmul(left.T, right)
