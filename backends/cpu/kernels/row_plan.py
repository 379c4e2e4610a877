"""Which rows every expert gets: the plan that all other kernels of a layer read.

T tokens choose K experts each. Choice (t, k) is the flat row t * K + k, R = T * K.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

EXPERTS = 8
ROWS = 2**31 - 1  # no more choices than this are ever kept


class RowPlan(NamedTuple):
    """Kept rows sorted by (expert, flat row); dropped rows sort last."""

    flat: jax.Array  # int32[min(R, ROWS)]: sorted row -> flat row
    sorted_row: jax.Array  # int32[T, K]: choice -> sorted row
    kept: jax.Array  # bool[T, K]: whether the choice is not dropped
    starts: jax.Array  # int32[E]: first sorted row of every expert
    sizes: jax.Array  # int32[E]: number of rows of every expert


def row_plan(ids: jax.Array) -> RowPlan:
    """Sort the choices `ids: int32[T, K]` by expert; id -1 is a dropped choice."""
    rows = ids.size
    kept = (ids >= 0) & (ids < EXPERTS)
    expert = jnp.where(kept, ids, EXPERTS).astype(jnp.int32)
    sorted_expert, flat = sort_by_key(expert.reshape(rows), EXPERTS + 1)
    bounds = jnp.searchsorted(
        sorted_expert, jnp.arange(EXPERTS + 1, dtype=jnp.int32)
    ).astype(jnp.int32)
    sorted_row = inverse_permutation(flat).reshape(ids.shape)
    return RowPlan(
        flat=flat[:ROWS],
        sorted_row=sorted_row,
        kept=kept,
        starts=bounds[:-1],
        sizes=bounds[1:] - bounds[:-1],
    )


def sort_by_key(keys: jax.Array, limit: int) -> tuple[jax.Array, jax.Array]:
    """(sorted, order) of each row of `keys: int32[..., N]` in [0, limit), stable."""
    count = keys.shape[-1]
    index = lax.broadcasted_iota(jnp.int32, keys.shape, keys.ndim - 1)
    if limit * count < 2**31:
        # One packed operand sorts several times faster than a key and a payload.
        packed = lax.sort(keys * count + index)
        return packed // count, packed % count
    sorted_keys, order = lax.sort((keys, index), num_keys=1, is_stable=True)
    return sorted_keys, order


def inverse_permutation(permutation: jax.Array) -> jax.Array:
    """int32[N] -> int32[N] with `inverse[permutation[i]] == i`."""
    index = lax.iota(jnp.int32, permutation.size)
    return (
        jnp.zeros_like(permutation)
        .at[permutation]
        .set(index, unique_indices=True, mode="promise_in_bounds")
    )


def place_in_queue(queue: jax.Array, queues: int) -> jax.Array:
    """How many earlier entries of its row equal each entry of `queue: int32[G, N]`.

    Entries are in [0, queues). Rows are sorted apart, so keys pack whatever G is.
    """
    groups, count = queue.shape
    sorted_queue, order = sort_by_key(queue, queues)
    group = lax.broadcasted_iota(jnp.int32, queue.shape, 0)
    sorted_row = inverse_permutation((group * count + order).reshape(queue.size))
    run_start = jnp.searchsorted(
        (group * queues + sorted_queue).reshape(queue.size),
        (group * queues + queue).reshape(queue.size),
    ).astype(jnp.int32)
    return (sorted_row - run_start).reshape(groups, count)
