"""From logits to the next token: greedy, temperature, top-k, top-p."""

import jax
import jax.numpy as jnp

from glam.generate.settings import Settings

NONE = -1  # no token: the logits are not numbers


def choose(settings: Settings, logits: jax.Array, keys: jax.Array) -> jax.Array:
    """int32 [batch]: a token of each row of logits [batch, vocabulary].

    `keys` are one random key a row. A row that holds NaN gives -1. Ties go to the lower
    token.
    """
    if settings.temperature == 0.0:
        chosen = jnp.argmax(logits, axis=-1)
    else:
        chosen = _drawn(settings, logits / settings.temperature, keys)
    poisoned = jnp.any(jnp.isnan(logits), axis=-1)
    return jnp.where(poisoned, NONE, chosen).astype(jnp.int32)


def _drawn(settings: Settings, logits: jax.Array, keys: jax.Array) -> jax.Array:
    if settings.top_k is None and settings.top_p is None:
        return jax.vmap(jax.random.categorical)(keys, logits)
    order = jnp.argsort(-logits, axis=-1, stable=True)
    ranked = jnp.take_along_axis(logits, order, axis=-1)
    kept = _kept(settings, ranked)
    place = jax.vmap(jax.random.categorical)(keys, jnp.where(kept, ranked, -jnp.inf))
    return jnp.take_along_axis(order, place[:, None], axis=-1)[:, 0]


def _kept(settings: Settings, ranked: jax.Array) -> jax.Array:
    """Which of the logits, best first, may be drawn: the best one always."""
    rank = jnp.arange(ranked.shape[-1])[None]
    kept = rank < (settings.top_k or ranked.shape[-1])
    if settings.top_p is None:
        return kept
    mass = jax.nn.softmax(jnp.where(kept, ranked, -jnp.inf), axis=-1)
    before = jnp.cumsum(mass, axis=-1) - mass
    return kept & ((before < settings.top_p) | (rank == 0))
