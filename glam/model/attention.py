"""Causal attention with a relative bias and one extra zero logit, by blocks of keys.

    softmax over {0, q.k + bias : k not after q, in q's segment}, times values

The bias is a table's (positions.py), or Transformer-XL's (transformer_xl.py).

There is no 1/sqrt(d): the initialiser of the query projection holds it. The extra logit
stands in the denominator alone, so a query without keys gets exactly zero.

Plain JAX with an online softmax (Milakov and Gimelshein 2018) and a backward pass that
computes each block of logits again. No kernel of a library fits: that of JAX for TPUs
with an extra logit (splash attention's `sinks`) takes no bias, and those with a bias
(flash attention, `jax.nn.dot_product_attention`) take it spread out over queries and
keys and have no extra logit.
"""

from functools import partial
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax

from backends.mesh_axes import vary_alike
from glam.model.positions import bias_at, bias_of_rows
from glam.model.transformer_xl import (
    Distances,
    scores_at,
    scores_of_rows,
    with_content,
)

Near: TypeAlias = jax.Array | Distances


class Place(NamedTuple):
    """Where queries and keys stand: int32 [batch, queries] and [batch, keys].

    Segment 0 is padding. Without positions, query i and key i stand at row i.
    """

    query_segments: jax.Array
    key_segments: jax.Array
    query_positions: jax.Array | None = None
    key_positions: jax.Array | None = None


class _Saved(NamedTuple):
    query: jax.Array
    key: jax.Array
    value: jax.Array
    bias: Near
    place: Place
    out: jax.Array
    log_sum: jax.Array


def attend(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    bias: Near,
    place: Place,
    key_block: int = 256,
) -> jax.Array:
    """float32 [batch, queries, heads, head] of query, key and value of such shapes.

    `bias` is the table [heads, 32], or what Transformer-XL has instead. Logits and
    softmax are float32; products take operands in the dtype of `query`.
    """
    block = min(key_block, key.shape[1])
    spare = -key.shape[1] % block
    key, value = _padded(key, spare), _padded(value, spare)
    positions = place.key_positions
    place = place._replace(
        key_segments=_padded(place.key_segments, spare),
        key_positions=None if positions is None else _padded(positions, spare),
    )
    query, key, value, bias, place = vary_alike((query, key, value, bias, place))
    return _attend(block, query, key, value, bias, place)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(
    block: int,
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    bias: Near,
    place: Place,
) -> jax.Array:
    return _forward(block, query, key, value, bias, place)[0]


def _forward(
    block: int,
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    bias: Near,
    place: Place,
) -> tuple[jax.Array, _Saved]:
    batch, queries, heads, width = query.shape

    def step(
        carry: tuple[jax.Array, jax.Array, jax.Array], index: jax.Array
    ) -> tuple[tuple[jax.Array, jax.Array, jax.Array], None]:
        top, total, out = carry
        here, values = _cut(key, index, block), _cut(value, index, block)
        logits = _logits(query, here, bias, place, index, block)
        higher = jnp.maximum(top, jnp.max(logits, axis=-1))
        weights = jnp.exp(logits - higher[..., None])
        shrink = jnp.exp(top - higher)
        out = out * shrink[..., None] + _weigh(weights, values)
        return (higher, total * shrink + jnp.sum(weights, axis=-1), out), None

    # The extra zero logit is the first one seen: maximum 0, sum 1, and no value.
    line = jnp.zeros((batch, heads, queries), jnp.float32)
    start = line, line + 1.0, jnp.zeros((*line.shape, width), jnp.float32)
    *start, _ = vary_alike((*start, query))
    (top, total, out), _ = lax.scan(step, tuple(start), _blocks(key, block))
    out = jnp.moveaxis(out / total[..., None], 1, 2)
    log_sum = top + jnp.log(total)
    return out, _Saved(query, key, value, bias, place, out, log_sum)


def _backward(
    block: int, saved: _Saved, d_out: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, Near, None]:
    query, place = saved.query, saved.place
    inner = jnp.moveaxis(jnp.sum(d_out * saved.out, axis=-1), 1, 2)
    d_rows = jnp.moveaxis(d_out, 1, 2)

    def step(
        carry: tuple[jax.Array, Near], index: jax.Array
    ) -> tuple[tuple[jax.Array, Near], tuple[jax.Array, jax.Array]]:
        d_query, d_bias = carry
        here = _cut(saved.key, index, block)
        values = _cut(saved.value, index, block)
        logits, pull = jax.vjp(
            lambda q, k, b: _logits(q, k, b, place, index, block),
            query,
            here,
            saved.bias,
        )
        weights = jnp.exp(logits - saved.log_sum[..., None])
        d_value, d_weights = _unweigh(weights, values, d_rows)
        by_query, by_key, by_bias = pull(weights * (d_weights - inner[..., None]))
        d_bias = jax.tree.map(jnp.add, d_bias, by_bias)
        carry = d_query + by_query.astype(jnp.float32), d_bias
        return carry, (by_key, d_value.astype(values.dtype))

    zeros = jax.tree.map(jnp.zeros_like, saved.bias)
    start = jnp.zeros(query.shape, jnp.float32), zeros
    *start, _ = vary_alike((*start, query))
    steps = _blocks(saved.key, block)
    (d_query, d_bias), (d_key, d_value) = lax.scan(step, tuple(start), steps)
    return (
        d_query.astype(query.dtype),
        _joined(d_key, saved.key.shape),
        _joined(d_value, saved.value.shape),
        d_bias,
        None,
    )


_attend.defvjp(_forward, _backward)


def _logits(
    query: jax.Array,
    key: jax.Array,
    bias: Near,
    place: Place,
    index: jax.Array,
    block: int,
) -> jax.Array:
    """float32 [batch, heads, queries, block], -inf where a query may not look."""
    first = index * block
    segments = _cut(place.key_segments, index, block)[:, None]
    same = (place.query_segments[:, :, None] == segments) & (segments > 0)
    if place.query_positions is None or place.key_positions is None:
        rows = jnp.arange(query.shape[1])[:, None]
        before = first + jnp.arange(block)[None] <= rows
        near = _near_rows(query, bias, block, first)
    else:
        keys = _cut(place.key_positions, index, block)
        distance = place.query_positions[:, :, None] - keys[:, None]
        before = distance >= 0
        near = _near_at(query, bias, distance)
    asking = with_content(query, bias) if isinstance(bias, Distances) else query
    products = jnp.einsum(
        "bqnd,bknd->bnqk", asking, key, preferred_element_type=jnp.float32
    )
    return jnp.where((same & before)[:, None], products + near, -jnp.inf)


def _near_rows(query: jax.Array, bias: Near, keys: int, first: jax.Array) -> jax.Array:
    """What the places of rows in order add to the logits."""
    if isinstance(bias, Distances):
        return scores_of_rows(query, bias, keys, first)
    return bias_of_rows(bias, query.shape[1], keys, first)[None]


def _near_at(query: jax.Array, bias: Near, distance: jax.Array) -> jax.Array:
    """What distances [batch, queries, keys] add to the logits."""
    if isinstance(bias, Distances):
        return scores_at(query, bias, distance)
    return jnp.moveaxis(bias_at(bias, distance), 0, 1)


def _weigh(weights: jax.Array, values: jax.Array) -> jax.Array:
    """Sums of values [batch, heads, queries, head] in float32."""
    return jnp.einsum(
        "bnqk,bknd->bnqd",
        weights.astype(values.dtype),
        values,
        preferred_element_type=jnp.float32,
    )


def _unweigh(
    weights: jax.Array, values: jax.Array, d_rows: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Cotangents of values and weights from those of the sums."""
    rounded = d_rows.astype(values.dtype)
    d_values = jnp.einsum(
        "bnqk,bnqd->bknd",
        weights.astype(values.dtype),
        rounded,
        preferred_element_type=jnp.float32,
    )
    d_weights = jnp.einsum(
        "bnqd,bknd->bnqk", rounded, values, preferred_element_type=jnp.float32
    )
    return d_values, d_weights


def _padded(array: jax.Array, spare: int) -> jax.Array:
    """With `spare` more keys of zeros, which are padding."""
    return jnp.pad(array, [(0, 0), (0, spare)] + [(0, 0)] * (array.ndim - 2))


def _cut(array: jax.Array, index: jax.Array, block: int) -> jax.Array:
    return lax.dynamic_slice_in_dim(array, index * block, block, axis=1)


def _blocks(key: jax.Array, block: int) -> jax.Array:
    return jnp.arange(key.shape[1] // block, dtype=jnp.int32)


def _joined(blocks: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """[blocks, batch, block, ...] as [batch, keys, ...]."""
    return jnp.moveaxis(blocks, 0, 1).reshape(shape)
