"""Decoding with a cache of keys and values: each token is computed once.

A row's token at position p has its key and value in slot p, so a slot is written before
a token can look at it, and what lies in later slots does not matter.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from glam.model.attention import Place, attend
from glam.model.config import Config
from glam.model.parameters import Params
from glam.model.transformer import (
    FeedForwards,
    embed,
    merge_heads,
    near,
    norm,
    project,
    unembed,
)

# {kind of layer: {"key", "value": [block, batch, slots, heads, head]}}
Cache = dict[str, dict[str, jax.Array]]


def empty(config: Config, batch: int, slots: int) -> Cache:
    """A cache for `batch` rows of at most `slots` tokens, in the activation dtype."""
    shape = (config.blocks, batch, slots, config.heads, config.head)
    zeros = jnp.zeros(shape, config.activation_dtype)
    return {kind: {"key": zeros, "value": zeros} for kind in config.kinds}


def prefill(
    config: Config, params: Params, cache: Cache, tokens: jax.Array, lengths: jax.Array
) -> tuple[jax.Array, Cache]:
    """Read prompts int32 [batch, longest], each of its length, from position 0.

    Returns the logits float32 [batch, vocabulary] after each prompt's last token.
    """
    segments = (jnp.arange(tokens.shape[1])[None] < lengths[:, None]).astype(jnp.int32)
    x, cache = _run(config, params, cache, tokens, segments, None)
    last = jnp.take_along_axis(x, (lengths - 1)[:, None, None], axis=1)
    return unembed(config, params, last[:, 0]), cache


def advance(
    config: Config,
    params: Params,
    cache: Cache,
    tokens: jax.Array,
    positions: jax.Array,
    alive: jax.Array,
) -> tuple[jax.Array, Cache]:
    """Read one token a row, int32 [batch], at `positions`; logits for the next ones.

    Rows that are not `alive` are padding: they reach no expert.
    """
    segments = alive.astype(jnp.int32)[:, None]
    x, cache = _run(config, params, cache, tokens[:, None], segments, positions)
    return unembed(config, params, x[:, 0]), cache


def _run(
    config: Config,
    params: Params,
    cache: Cache,
    tokens: jax.Array,
    segments: jax.Array,
    start: jax.Array | None,
) -> tuple[jax.Array, Cache]:
    """Activations [batch, new, model] of new tokens, and the cache with them in it.

    Without `start` the tokens are the first ones, and see each other alone.
    """
    below = FeedForwards(config, tokens, segments)

    def block(
        x: jax.Array, scanned: tuple[Params, Cache]
    ) -> tuple[jax.Array, dict[str, Any]]:
        params, held = scanned
        kept = {}
        for kind in config.kinds:
            made, kept[kind] = _attention(
                config, params[kind], x, held[kind], segments, start
            )
            x = x + made
            x = x + below.apply(kind, params[kind], x, None)[0]
        return x, kept

    x = embed(config, params, tokens)
    return lax.scan(block, x, (params["blocks"], cache))


def _attention(
    config: Config,
    layer: Params,
    x: jax.Array,
    held: dict[str, jax.Array],
    segments: jax.Array,
    start: jax.Array | None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    params = layer["attention"]
    normed = norm(x, layer["attention_norm"]).astype(x.dtype)
    query, key, value = project(normed, params)
    if start is None:
        place, bias = Place(segments, segments), near(config, params, x.shape[1])
        out = attend(query, key, value, bias, place, config.key_block)
        put = {"key": (0, key), "value": (0, value)}
        kept = {
            name: lax.dynamic_update_slice_in_dim(held[name], new, at, axis=1)
            for name, (at, new) in put.items()
        }
        return merge_heads(out, params, x.dtype), kept
    rows = jnp.arange(len(start))
    kept = {
        "key": held["key"].at[rows, start].set(key[:, 0], mode="drop"),
        "value": held["value"].at[rows, start].set(value[:, 0], mode="drop"),
    }
    slots = jnp.broadcast_to(jnp.arange(held["key"].shape[1]), held["key"].shape[:2])
    place = Place(segments, jnp.ones_like(slots), start[:, None], slots)
    bias = near(config, params, slots.shape[1])
    out = attend(query, kept["key"], kept["value"], bias, place, config.key_block)
    return merge_heads(out, params, x.dtype), kept
