"""Parameters: a tree of plain dicts, how it starts and what its axes are called.

    {"embedding": [vocabulary, model],
     "blocks": {"moe": LAYER, "dense": LAYER},       a dense model has "dense" alone
     "final_norm": [model]}

    LAYER = {"attention_norm": [model],
             "attention": {"query", "key", "value": [model, heads, head],
                           "out": [heads, head, model],
                           "bias": [heads, buckets]},
                           of Transformer-XL, instead of the bias: "content" and
                           "position" [heads, head], "distance" [model, heads, head]
             "feed_forward_norm": [model],
             "feed_forward": what moegen's op declares}

Every array under "blocks" has one more axis in front, `block`: layer pair b of a model
with experts is entry b of "moe" and then entry b of "dense".
"""

from functools import partial
from math import prod
from typing import Any

import jax
import jax.numpy as jnp

from glam.family import RELATIVE_BUCKETS
from glam.model.config import Config
from glam.model.feed_forward import parameters

Params = dict[str, Any]
_ATTENTION: dict[str, tuple[str, ...]] = {
    "query": ("model", "heads", "head"),
    "key": ("model", "heads", "head"),
    "value": ("model", "heads", "head"),
    "out": ("heads", "head", "model"),
}
_POSITION: dict[str, dict[str, tuple[str, ...]]] = {
    "buckets": {"bias": ("heads", "buckets")},
    "transformer-xl": {
        "content": ("heads", "head"),
        "position": ("heads", "head"),
        "distance": ("sinusoids", "heads", "head"),
    },
}


def init(config: Config, key: jax.Array) -> Params:
    """Fresh parameters, in the configuration's parameter dtype.

    Deviations: embedding 1; query (M d_head)^-1/2, which holds attention's missing
    1/sqrt(d); key and value M^-1/2; out (heads d_head)^-1/2; relative bias
    (heads * 32)^-1/2; Transformer-XL's distances M^-1/2, its two vectors start at 0.
    Scales are 1. Feed-forward layers: U(+-sqrt(3 / fan-in)).
    """
    table, blocks = jax.random.split(key)
    dtype = config.parameter_dtype
    embedding = _normal(table, (config.vocabulary, config.model), 1.0, dtype)
    keys = jax.random.split(blocks, config.blocks)
    return {
        "embedding": embedding,
        # XLA compiles random numbers much faster in a loop than batched.
        "blocks": jax.lax.map(partial(_block, config), keys),
        "final_norm": jnp.ones(config.model, dtype),
    }


def abstract(config: Config) -> Params:
    """Shapes and dtypes of the parameters; nothing is computed."""
    shapes: Params = jax.eval_shape(partial(init, config), jax.random.key(0))
    return shapes


def axes(config: Config) -> Params:
    """Axis names of every parameter: the tree of `init` with tuples for leaves."""
    return {
        "embedding": ("vocabulary", "model"),
        "blocks": {kind: _axes(config, kind) for kind in config.kinds},
        "final_norm": ("model",),
    }


def sizes(config: Config) -> dict[str, int]:
    """The length of each axis that is the model's own."""
    return {
        "block": config.blocks,
        "vocabulary": config.vocabulary,
        "model": config.model,
        "heads": config.heads,
        "head": config.head,
        "hidden": config.hidden,
        **(
            {"buckets": RELATIVE_BUCKETS}
            if config.position == "buckets"
            else {"sinusoids": config.model}
        ),
        **({} if config.experts is None else {"experts": config.experts}),
    }


def _block(config: Config, key: jax.Array) -> Params:
    keys = jax.random.split(key, len(config.kinds))
    return {
        kind: _layer(config, kind, own)
        for kind, own in zip(config.kinds, keys, strict=True)
    }


def _layer(config: Config, kind: str, key: jax.Array) -> Params:
    attention, feed_forward = jax.random.split(key)
    dtype = config.parameter_dtype
    return {
        "attention_norm": jnp.ones(config.model, dtype),
        "attention": _attention(config, attention),
        "feed_forward_norm": jnp.ones(config.model, dtype),
        "feed_forward": parameters(config, kind).init(feed_forward),
    }


def _attention(config: Config, key: jax.Array) -> Params:
    """All projections in one draw: XLA takes longest to compile random numbers."""
    model, heads, head = config.model, config.heads, config.head
    projections, position = jax.random.split(key)
    dtype = config.parameter_dtype
    drawn = _normal(projections, (4, model, heads, head), 1.0, "float32")
    fans = model * head, model, model, heads * head
    query, key_, value, out = (
        (drawn[index] * fan**-0.5).astype(dtype) for index, fan in enumerate(fans)
    )
    return {
        "query": query,
        "key": key_,
        "value": value,
        "out": jnp.moveaxis(out, 0, 2),
        **_position(config, position),
    }


def _position(config: Config, key: jax.Array) -> Params:
    model, heads, head = config.model, config.heads, config.head
    dtype = config.parameter_dtype
    if config.position == "buckets":
        buckets = heads, RELATIVE_BUCKETS
        return {"bias": _normal(key, buckets, prod(buckets) ** -0.5, dtype)}
    zeros = jnp.zeros((heads, head), dtype)
    drawn = _normal(key, (model, heads, head), model**-0.5, dtype)
    return {"content": zeros, "position": zeros, "distance": drawn}


def _normal(
    key: jax.Array, shape: tuple[int, ...], deviation: float, dtype: str
) -> jax.Array:
    return (deviation * jax.random.normal(key, shape, jnp.float32)).astype(dtype)


def _axes(config: Config, kind: str) -> Params:
    own = {
        "attention_norm": ("model",),
        "attention": _ATTENTION | _POSITION[config.position],
        "feed_forward_norm": ("model",),
        "feed_forward": parameters(config, kind).axes,
    }
    named: Params = jax.tree.map(lambda names: ("block", *names), own, is_leaf=is_axes)
    return named


def is_axes(tree: Any) -> bool:
    """Whether this is a leaf of `axes`: for `is_leaf` of jax.tree functions."""
    return isinstance(tree, tuple)
