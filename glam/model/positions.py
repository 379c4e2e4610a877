"""Relative positions: a learned bias by distance, in buckets (Raffel et al. 2020).

Every layer has its own table. Distances below 16 have a bucket each, longer ones share
buckets of growing width, and all from 128 on share the last one.
"""

import jax
import jax.numpy as jnp
import numpy as np

from glam.family import RELATIVE_BUCKETS

EXACT = RELATIVE_BUCKETS // 2
FARTHEST = 128


def bucket_table() -> np.ndarray:
    """int32[129]: the bucket of each distance, the last for all longer ones."""
    distance = np.arange(FARTHEST + 1)
    wide = np.log(np.maximum(distance, EXACT) / EXACT) / np.log(FARTHEST / EXACT)
    shared = EXACT + np.floor(wide * EXACT).astype(np.int32)
    bucket = np.where(distance < EXACT, distance, shared)
    return np.minimum(bucket, RELATIVE_BUCKETS - 1).astype(np.int32)


def bias_at(table: jax.Array, distance: jax.Array) -> jax.Array:
    """Bias of each head at any distances, float32 [heads, *distance.shape].

    `table` is [heads, 32]; a negative distance, which causality masks, reads as 0.
    """
    near = jnp.clip(distance, 0, FARTHEST)
    bucket = jnp.asarray(bucket_table())[near]
    return table.astype(jnp.float32)[:, bucket]


def bias_of_rows(
    table: jax.Array, queries: int, keys: int, first_key: jax.Array | int
) -> jax.Array:
    """Bias [heads, queries, keys] of queries 0.. and keys first_key.. of one sequence.

    Only queries + keys - 1 distances occur: these are looked up, and a reshape lays
    them along the diagonals, so that the gradient is a sum and not a scatter.
    """
    # Entry i is the distance of query q and key k where i = queries - 1 - q + k.
    distance = queries - 1 - jnp.arange(queries + keys) - first_key
    heads, width = table.shape[0], queries + keys
    line = bias_at(table, distance)
    rows = jnp.broadcast_to(line[:, None], (heads, queries, width))
    flat = rows.reshape(heads, queries * width)[:, : queries * (width - 1)]
    return flat.reshape(heads, queries, width - 1)[:, :, queries - 1 :]
