"""GShard's layer: the second expert is dispatched at random (Lepikhin et al. 2020)."""

import jax
import jax.numpy as jnp

from moegen import lang as moe
from moegen.initializers import fan_in


def gshard_moe(
    x: jax.Array = moe.tensor("tokens model"),
    noise: jax.Array = moe.tensor("tokens", dtype="float32", default="uniform"),
    valid: jax.Array = moe.tensor("tokens", dtype="bool", default="ones"),
    *,
    tokens: int = 2048,
    model: int = 768,
    hidden: int = 3072,
    experts: int = 64,
    capacity_factor: float = 2.0,
    groups: int = 1,
    balance_weight: float = 0.01,
    activation: str = "relu",
) -> jax.Array:
    """Top-2; the second choice is kept with probability min(1, 2 * its gate).

    `noise` is drawn from U[0, 1) with the key given to the op. Tokens with `valid`
    false (padding) are neither routed nor counted.
    """
    activate = {"relu": jax.nn.relu, "gelu": jax.nn.gelu}[activation]
    router = moe.param("router", "model experts", dtype="float32")
    wi = moe.param("wi", "experts hidden model", fan_in("model"))
    wo = moe.param("wo", "experts model hidden", fan_in("hidden"))

    scores = moe.softmax(moe.matmul(x, router))
    choice = moe.drop(moe.top_k(scores, 2), valid)
    gates = moe.normalize(moe.take(scores, choice))
    balance = moe.load_balance(scores, choice, groups, valid)
    moe.loss("load_balance", balance, balance_weight)

    second = 2.0 * gates[:, 1:] > noise[:, None]
    keep = jnp.concatenate([jnp.ones_like(second), second], axis=1)
    places = moe.capacity(tokens, experts, capacity_factor, groups)
    kept = moe.assign(moe.drop(choice, keep), places, groups, priority="choice")
    rows = moe.dispatch(x, kept)
    inner = activate(moe.expert_matmul(rows, wi, transposed=True))
    outer = moe.expert_matmul(inner, wo, transposed=True)
    return moe.combine(outer, gates)
