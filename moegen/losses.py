"""Losses and metrics: what a layer reports beside its output."""

import jax
import jax.numpy as jnp

from ir.errors import BadName, DuplicateResult, ShapeMismatch
from ir.moe import check_groups
from moegen.arguments import (
    require_name,
    require_number,
    require_tensors,
    require_whole,
)
from moegen.places import user_place
from moegen.primitives import apply
from moegen.routing import AUTOMATIC, known_routing
from moegen.session import Session, current


def count(choice: jax.Array, groups: int = 1, experts: int | None = None) -> jax.Array:
    """How many choices each expert has in each group: int32 [groups, experts]."""
    known = known_routing(choice, "count", experts)
    return apply("moe.count", choice, experts=known.experts, groups=groups)


def load_balance(
    scores: jax.Array,
    choice: jax.Array,
    groups: int = 1,
    valid: jax.Array | None = None,
) -> jax.Array:
    """Load-balance loss: E^2 * mean over (group, expert) of share * mean score.

    The share is that of first choices; 1.0 at balance (GShard; GLaM, weight 0.01).
    Tokens with `valid` false count in neither mean.
    """
    require_tensors("load_balance", scores, choice)
    tokens, experts = scores.shape
    check_groups(tokens, require_whole("load_balance", "groups", groups), user_place())
    if valid is not None and valid.shape != (tokens,):
        raise ShapeMismatch(
            user_place(),
            op="load_balance",
            expected=f"valid as bool [{tokens}], one for each token",
            got=current("load_balance").describe(valid),
            fix="pass the mask of tokens",
        )
    first = jax.lax.slice_in_dim(choice, 0, 1, axis=1)
    chosen = count(first, groups=groups, experts=experts).astype(jnp.float32)
    if valid is None:
        size = jnp.full((groups, 1), tokens // groups, jnp.float32)
        kept = scores
    else:
        marks = jnp.broadcast_to(valid[:, None], scores.shape)
        kept = jnp.where(marks, scores, 0.0)
        held = valid.astype(jnp.float32).reshape(groups, tokens // groups)
        size = jnp.maximum(jnp.sum(held, axis=1, keepdims=True), 1.0)
    mean = jnp.sum(kept.reshape(groups, tokens // groups, experts), axis=1) / size
    return jnp.sum(chosen / size * mean) * (experts / groups)


def z_loss(logits: jax.Array) -> jax.Array:
    """Mean over tokens of log(sum exp(logits))^2 (Zoph et al. 2022, equation 5)."""
    top = jnp.max(logits, axis=-1, keepdims=True)
    z = jnp.log(jnp.sum(jnp.exp(logits - top), axis=-1, keepdims=True)) + top
    return jnp.mean(z * z)


def loss(name: str, value: jax.Array, weight: float = 1.0) -> None:
    """Record a scalar loss; the op returns it, and the weighted sum of all losses."""
    require_tensors(f"loss '{name}'", value)
    if not isinstance(weight, jax.Array):
        weight = require_number(f"loss '{name}'", "its weight", weight)
    session = _record("loss", name)
    if value.shape != ():
        got = session.describe(value)
        fix = "sum it or take its mean"
        raise ShapeMismatch(
            user_place(), op=f"loss '{name}'", expected="a scalar", got=got, fix=fix
        )
    session.losses[name] = (value.astype(jnp.float32), weight)


def metric(name: str, value: jax.Array) -> None:
    """Record a tensor that the op returns beside its output; it has no gradient."""
    require_tensors(f"metric '{name}'", value)
    if AUTOMATIC.fullmatch(str(name)):
        why, fix = "dispatch records a metric of that name itself", "use another name"
        where = user_place()
        raise BadName(where, kind="metric", name=f"'{name}'", why=why, fix=fix)
    _record("metric", name).metrics[name] = value


def _record(kind: str, name: str) -> Session:
    session, where = current(kind), user_place()
    require_name(kind, name)
    key = f"{kind} '{name}'"
    if key in session.recorded:
        first = session.recorded[key]
        raise DuplicateResult(where, kind=kind, name=name, first=first)
    session.recorded[key] = where
    return session
