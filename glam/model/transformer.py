"""The decoder: tokens to logits, one block compiled once and scanned.

x = embedding[tokens]
per layer:  x += attention(norm(x));  x += feed_forward(norm(x))
logits = (final_norm(x) * model^-1/2) embedding^T
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from glam.model import feed_forward
from glam.model.attention import Near, Place, attend
from glam.model.config import Config
from glam.model.parameters import Params
from glam.model.transformer_xl import distances

Aux = dict[str, Any]
EPSILON = 1e-6
_POLICIES = {
    "products": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "all": jax.checkpoint_policies.nothing_saveable,
}


def forward(
    config: Config,
    params: Params,
    tokens: jax.Array,
    segments: jax.Array,
    positions: jax.Array | None = None,
    key: jax.Array | None = None,
) -> tuple[jax.Array, Aux]:
    """Logits float32 [batch, sequence, vocabulary], and losses and metrics by layer.

    `tokens` and `segments` are int32 [batch, sequence]; a token sees the tokens before
    it of its own segment, and segment 0 is padding. `positions` are needed only where
    rows are not in order. `key` is for layers that draw. The second result is
    {"loss": the weighted sum over layers, "losses", "metrics": arrays [block, ...]}.
    """
    place = Place(segments, segments, positions, positions)
    below = FeedForwards(config, tokens, segments)
    keys = None if key is None else jax.random.split(key, config.blocks)

    def block(x: jax.Array, scanned: tuple[Params, Any]) -> tuple[jax.Array, Aux]:
        params, key = scanned
        aux: Aux = {}
        for kind in config.kinds:
            layer = params[kind]
            x = x + _self_attention(config, layer, x, place)
            made, found = below.apply(kind, layer, x, key)
            x = x + made
            aux |= found
        return x, aux

    x = embed(config, params, tokens)
    x, aux = lax.scan(rematerialised(config, block), x, (params["blocks"], keys))
    total = jnp.sum(aux.pop("loss")) if aux else jnp.zeros((), jnp.float32)
    return unembed(config, params, x), {"losses": {}, "metrics": {}} | aux | {
        "loss": total
    }


def embed(config: Config, params: Params, tokens: jax.Array) -> jax.Array:
    """Rows of the embedding [..., model] in the activation dtype, not scaled."""
    rows: jax.Array = params["embedding"][tokens]
    return rows.astype(config.activation_dtype)


def unembed(config: Config, params: Params, x: jax.Array) -> jax.Array:
    """Logits float32 [..., vocabulary] by the tied embedding."""
    last = norm(x, params["final_norm"]) * config.model**-0.5
    return jnp.einsum(
        "...m,vm->...v",
        last.astype(x.dtype),
        params["embedding"].astype(x.dtype),
        preferred_element_type=jnp.float32,
    )


def norm(x: jax.Array, scale: jax.Array) -> jax.Array:
    """RMSNorm (Zhang and Sennrich 2019) over the last axis, computed in float32."""
    wide = x.astype(jnp.float32)
    mean = jnp.mean(wide * wide, axis=-1, keepdims=True)
    return wide * lax.rsqrt(mean + EPSILON) * scale.astype(jnp.float32)


def near(config: Config, params: Params, count: int) -> Near:
    """What a layer's attention knows of distances below `count`."""
    if config.position == "transformer-xl":
        return distances(params, count)
    table: jax.Array = params["bias"]
    return table


def project(x: jax.Array, params: Params) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Query, key and value [batch, sequence, heads, head] of normed x, in its dtype."""
    made = (
        jnp.einsum(
            "blm,mnd->blnd",
            x,
            params[name].astype(x.dtype),
            preferred_element_type=jnp.float32,
        )
        for name in ("query", "key", "value")
    )
    query, key, value = (array.astype(x.dtype) for array in made)
    return query, key, value


def merge_heads(out: jax.Array, params: Params, dtype: Any) -> jax.Array:
    """[batch, sequence, model] of attention's output [batch, sequence, heads, head]."""
    made = jnp.einsum(
        "blnd,ndm->blm",
        out.astype(dtype),
        params["out"].astype(dtype),
        preferred_element_type=jnp.float32,
    )
    return made.astype(dtype)


def rematerialised(config: Config, block: Any) -> Any:
    """The block, computed again in the backward pass as the configuration says."""
    if config.remat == "none":
        return block
    return jax.checkpoint(block, policy=_POLICIES[config.remat], prevent_cse=False)


def _self_attention(
    config: Config, layer: Params, x: jax.Array, place: Place
) -> jax.Array:
    params = layer["attention"]
    query, key, value = project(
        norm(x, layer["attention_norm"]).astype(x.dtype), params
    )
    bias = near(config, params, x.shape[1])
    out = attend(query, key, value, bias, place, config.key_block)
    return merge_heads(out, params, x.dtype)


class FeedForwards:
    """The feed-forward layers of one call: their ops, and their inputs beside x."""

    def __init__(self, config: Config, tokens: jax.Array, segments: jax.Array) -> None:
        compiled = partial(feed_forward.compiled, config, tokens=tokens.size)
        self.ops = {kind: compiled(kind) for kind in config.kinds}
        self.valid = (segments > 0).reshape(-1)
        self.ids = tokens.reshape(-1)

    def apply(
        self, kind: str, layer: Params, x: jax.Array, key: jax.Array | None
    ) -> tuple[jax.Array, Aux]:
        """The sublayer's output, and losses and metrics of a layer with experts."""
        op = self.ops[kind]
        rows = norm(x, layer["feed_forward_norm"]).astype(x.dtype)
        given = {"valid": self.valid, "ids": self.ids, **feed_forward.noise(op, key)}
        flat = rows.reshape(-1, x.shape[-1])
        made, aux = feed_forward.apply(op, layer["feed_forward"], flat, given)
        return made.reshape(x.shape).astype(x.dtype), aux if kind == "moe" else {}
