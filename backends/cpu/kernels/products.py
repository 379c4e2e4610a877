"""The products an expert's body is made of: its rows by its own weights.

A body sees rows [C, D]. Where all its weights are [out, in] its products make columns
[D, C] of them: XLA packs the right operand of every product, and rows are the smaller
one.
"""

import jax
import jax.numpy as jnp
from jax import lax

PRODUCT_DTYPE = jnp.float32  # what operands are rounded to; sums are float32
MOST_TERMS = 8  # products that one pass over the weights adds up, at most
LEAST_TERMS = 4


def expert_dot(rows: jax.Array, weights: jax.Array) -> jax.Array:
    """[C, A] rows by [A, B] weights."""
    terms = next(t for t in range(MOST_TERMS, 0, -1) if rows.shape[1] % t == 0)
    if rows.shape[0] > 1 or terms < LEAST_TERMS:
        return product(rows, weights, 1, 0)
    row = rows.astype(jnp.float32)
    if weights.dtype != jnp.bfloat16 or weights.shape[1] % 2:
        return sum_of_terms(row, weights.astype(jnp.float32), terms)
    sums = [sum_of_terms(row, half, terms) for half in halves(weights)]
    return jnp.stack(sums, axis=-1).reshape(1, -1)


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


def halves(weights: jax.Array) -> tuple[jax.Array, jax.Array]:
    """bfloat16 [A, B] as float32: its even and its odd columns, [A, B / 2] each.

    A bfloat16 is the upper half of a float32. Shifting whole words is what XLA makes
    vector instructions of; casts of single numbers it does one by one.
    """
    pairs = weights.reshape(-1, weights.shape[1] // 2, 2)
    words = lax.bitcast_convert_type(pairs, jnp.uint32)
    upper = words & jnp.uint32(0xFFFF0000)
    return (
        lax.bitcast_convert_type(words << 16, jnp.float32),
        lax.bitcast_convert_type(upper, jnp.float32),
    )


def expert_dot_t(rows: jax.Array, weights: jax.Array) -> jax.Array:
    """[C, A] rows by the transpose of [B, A] weights."""
    return product(rows, weights, 1, 1)


def column_dot(weights: jax.Array, columns: jax.Array) -> jax.Array:
    """[B, C]: [B, A] weights by [A, C] columns."""
    return product(weights, columns, 1, 0)


def columns_of_rows(weights: jax.Array, rows: jax.Array) -> jax.Array:
    """[B, C]: [B, A] weights by the columns that [C, A] rows become."""
    return product(weights, rows, 1, 1)


def expert_outer(left: jax.Array, right: jax.Array) -> jax.Array:
    """[A, B]: the sum over rows of [C, A] by [C, B]."""
    return product(left, right, 0, 0)


def product(
    left: jax.Array, right: jax.Array, of_left: int, of_right: int
) -> jax.Array:
    """float32: the product of matrices, over an axis of each, in PRODUCT_DTYPE.

    Not `jnp.matmul`, which widens bfloat16 to add up in float32.
    """
    return lax.dot_general(
        left.astype(PRODUCT_DTYPE),
        right.astype(PRODUCT_DTYPE),
        (((of_left,), (of_right,)), ((), ())),
        preferred_element_type=jnp.float32,
    )
