"""Products of float32 on a TPU, made of products of bfloat16 that lose nothing.

A float32 is the sum of three numbers of bfloat16, and the multipliers add products of
bfloat16 in float32. Of the nine products of two float32 the six large ones count; with
a factor that is bfloat16 already there are three. Parts are multiplied side by side,
so that few experts still fill the multipliers.

N tokens; columns are [W, N] and rows [N, D], where W is narrow and D is wide.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl

PARTS = 3  # numbers of bfloat16 that make a float32
PACKED_ROWS = 16  # rows of bfloat16 that fill a tile of memory
WIDTH_AT_ONCE = 1024  # of what is summed over


def to_columns(rows: Any, weights: Any) -> jax.Array:
    """float32[W, N] from rows [N, D] by weights [W, D], a piece of D at a time."""
    width = weights.shape[1]
    piece = width_at_once(width)

    def step(number: jax.Array, total: jax.Array) -> jax.Array:
        at = pl.ds(pl.multiple_of(number * piece, piece), piece)
        return total + exact_dot(weights[:, at], rows[:, at], 1)

    if piece == width:
        return exact_dot(weights[...], rows[...], 1)
    start = jnp.zeros((weights.shape[0], rows.shape[0]), jnp.float32)
    total: jax.Array = lax.fori_loop(0, width // piece, step, start)
    return total


def to_rows(columns: jax.Array, weights: Any) -> jax.Array:
    """float32[N, D] from columns [W, N] by weights [W, D]."""
    left, right = bf16_parts(columns), bf16_parts(weights[...])
    pairs = [
        (a, b)
        for i, a in enumerate(left)
        for j, b in enumerate(right)
        if i + j < max(len(left), len(right))
    ]
    # Float32 is turned, or put together at any row, where bfloat16 is not.
    single = [a.astype(jnp.float32) for a, _ in pairs]
    wide = jnp.concatenate(single).T.astype(jnp.bfloat16)
    if columns.shape[0] % PACKED_ROWS == 0:
        return bf16_dot(wide, jnp.concatenate([b for _, b in pairs]), 0)
    tall = jnp.concatenate([b.astype(jnp.float32) for _, b in pairs])
    return bf16_dot(wide, tall.astype(jnp.bfloat16), 0)


def to_weights(columns: jax.Array, rows: jax.Array) -> jax.Array:
    """float32[W, D]: the sum over tokens of columns [W, N] times rows [N, D]."""
    return exact_dot(columns, rows, 0)


def exact_dot(left: jax.Array, right: jax.Array, axis: int) -> jax.Array:
    """float32[W, ...]: left [W, M] by right, whose `axis` is M."""
    mine, others = bf16_parts(left), bf16_parts(right)
    terms = max(len(mine), len(others))
    made = []
    for number, other in enumerate(others):
        own = mine[: terms - number]
        if left.shape[0] % PACKED_ROWS:
            made += [bf16_dot(part, other, axis) for part in own]
        else:
            tall = bf16_dot(jnp.concatenate(own), other, axis)
            made += jnp.split(tall, len(own))
    return small_first(made)


def bf16_parts(values: jax.Array) -> list[jax.Array]:
    """Numbers of bfloat16 whose sum is `values`, largest first."""
    if values.dtype == jnp.bfloat16:
        return [values]
    found, rest = [], values.astype(jnp.float32)
    for _ in range(PARTS):
        found.append(rest.astype(jnp.bfloat16))
        rest = rest - found[-1].astype(jnp.float32)
    return found


def bf16_dot(left: jax.Array, right: jax.Array, axis: int) -> jax.Array:
    """float32: left [A, M] by right, whose `axis` is M."""
    if axis == 1 and right.shape[0] == 1:  # lowered as a vector's, of float32 alone
        left, right = left.astype(jnp.float32), right.astype(jnp.float32)
    return lax.dot_general(
        left, right, (((1,), (axis,)), ((), ())), preferred_element_type=jnp.float32
    )


def small_first(terms: list[jax.Array]) -> jax.Array:
    """The sum, smallest terms first."""
    total = terms[-1]
    for term in terms[-2::-1]:
        total = total + term
    return total


def width_at_once(width: int) -> int:
    """The largest piece of whole lanes that divides a width; all of it if none does."""
    lanes = range(WIDTH_AT_ONCE, 0, -128)
    return next((n for n in lanes if width % n == 0), width)
