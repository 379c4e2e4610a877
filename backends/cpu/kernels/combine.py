"""Back from the experts' rows to tokens: a gather over each token's choices.

Never a scatter-add: every sum has one fixed order, so reruns are equal bit by bit.
"""

import jax
import jax.numpy as jnp
from jax import lax

from backends.cpu.kernels.row_plan import RowPlan

UNROLLED_CHOICES = 8  # more choices a token are summed in a loop


def combine(
    row_space: jax.Array, plan: RowPlan, gates: jax.Array | None = None
) -> jax.Array:
    """[T, D]: the sum over k of `gates[t, k]` (or 1) times the row of choice (t, k).

    Dropped choices contribute nothing, whatever their gate. Sums in float32, in the
    order of k, and returns the rows' dtype.
    """
    kept, sorted_row = plan.kept, plan.sorted_row
    tokens, choices = kept.shape

    def add(total: jax.Array, k: int | jax.Array) -> jax.Array:
        rows = row_space[column(sorted_row, k)].astype(jnp.float32)
        if gates is not None:
            rows = rows * column(gates, k)[:, None].astype(jnp.float32)
        return total + jnp.where(column(kept, k)[:, None], rows, 0.0)

    total = jnp.zeros((tokens, row_space.shape[1]), jnp.float32)
    if choices <= UNROLLED_CHOICES:
        for k in range(choices):
            total = add(total, k)
    else:
        # Each token's kept choices first, so that the loop ends with the longest.
        index = lax.broadcasted_iota(jnp.int32, kept.shape, 1)
        order = lax.sort(jnp.where(kept, index, choices + index)) % choices
        kept, sorted_row = in_order(kept, order), in_order(sorted_row, order)
        gates = None if gates is None else in_order(gates, order)
        most = jnp.max(jnp.sum(kept, axis=1, dtype=jnp.int32), initial=0)
        total = lax.fori_loop(0, most, lambda k, total: add(total, k), total)
    return total.astype(row_space.dtype)


def column(table: jax.Array, k: int | jax.Array) -> jax.Array:
    """[T]: column k of [T, K]."""
    return lax.dynamic_index_in_dim(table, k, axis=1, keepdims=False)


def in_order(table: jax.Array, order: jax.Array) -> jax.Array:
    """[T, K]: `table` with every token's choices in `order: int32[T, K]`."""
    return jnp.take_along_axis(table, order, axis=1)


def choice_rows(row_space: jax.Array, plan: RowPlan) -> jax.Array:
    """[T, K]: the row [1] of every choice, 0 where dropped."""
    return jnp.where(plan.kept, row_space[plan.sorted_row, 0], 0)
