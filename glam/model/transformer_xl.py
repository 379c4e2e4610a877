"""Relative positions of Transformer-XL (Dai et al. 2019, section 3.3), as an option.

    logit of query q and key k = (q + u) . k + (q + v) . (W r), r the sinusoids of their
    distance; u and v are one vector a head, W is [model, heads, head]

The paper of GLaM cites them; its public code has the table of buckets, our default.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Distances(NamedTuple):
    """u and v [heads, head], and W r of distances 0, 1, ... [count, heads, head]."""

    content: jax.Array
    position: jax.Array
    vectors: jax.Array


def distances(params: Any, count: int) -> Distances:
    """Of a layer's attention parameters, for distances below `count`; float32."""
    projection = params["distance"].astype(jnp.float32)
    waves = jnp.asarray(sinusoids(count, projection.shape[0]))
    vectors = jnp.einsum("cm,mnd->cnd", waves, projection)
    return Distances(params["content"], params["position"], vectors)


def sinusoids(count: int, width: int) -> np.ndarray:
    """float32 [count, width]: sines of distance / 10000^(2 i / width), then cosines."""
    rates = 10_000.0 ** (-2 * np.arange((width + 1) // 2) / width)
    angles = np.arange(count)[:, None] * rates
    waves = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    return waves[:, :width].astype(np.float32)


def with_content(query: jax.Array, near: Distances) -> jax.Array:
    """q + u of queries [batch, queries, heads, head], in their dtype."""
    return query + near.content.astype(query.dtype)


def scores_at(query: jax.Array, near: Distances, distance: jax.Array) -> jax.Array:
    """(q + v) . (W r), float32 [batch, heads, queries, keys], of any distances.

    `distance` is [batch, queries, keys]; what lies outside the known ones, which
    causality masks, reads as the nearest.
    """
    known = jnp.clip(distance, 0, near.vectors.shape[0] - 1)
    vectors = near.vectors.astype(query.dtype)[known]
    return jnp.einsum(
        "bqnd,bqknd->bnqk",
        query + near.position.astype(query.dtype),
        vectors,
        preferred_element_type=jnp.float32,
    )


def scores_of_rows(
    query: jax.Array, near: Distances, keys: int, first_key: jax.Array | int
) -> jax.Array:
    """The same of queries 0.. and keys first_key.. of one sequence.

    Each query is multiplied with queries + keys - 1 distances, and a reshape shifts
    its row to where its own distances stand.
    """
    batch, queries, heads, _ = query.shape
    width = queries + keys
    # Entry i is the distance of query q and key k where i = queries - 1 - q + k.
    distance = queries - 1 - jnp.arange(width) - first_key
    known = jnp.clip(distance, 0, near.vectors.shape[0] - 1)
    scores = jnp.einsum(
        "bqnd,wnd->bnqw",
        query + near.position.astype(query.dtype),
        near.vectors.astype(query.dtype)[known],
        preferred_element_type=jnp.float32,
    )
    flat = scores.reshape(batch, heads, queries * width)[..., : queries * (width - 1)]
    return flat.reshape(batch, heads, queries, width - 1)[..., queries - 1 :]
