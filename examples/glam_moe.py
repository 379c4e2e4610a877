"""GLaM's mixture-of-experts layer (Du et al. 2021, section 3, and its public code)."""

import jax
import jax.numpy as jnp

from moegen import lang as moe
from moegen.initializers import fan_in


def glam_moe(
    x: jax.Array = moe.tensor("tokens model"),
    valid: jax.Array = moe.tensor("tokens", dtype="bool", default="ones"),
    *,
    tokens: int = 2048,
    model: int = 768,
    hidden: int = 3072,
    experts: int = 64,
    k: int = 2,
    capacity_factor: float = 2.0,
    groups: int = 1,
    balance_weight: float = 0.01,
    activation: str = "relu",
    dropless: bool = False,
) -> jax.Array:
    """Top-2 of softmax scores, gates normalised before capacity, ReLU experts.

    Tokens with `valid` false (padding) are neither routed nor counted. The paper leaves
    the experts' activation open ("gelu" is an option); `dropless` is for serving.
    """
    activate = {"relu": jax.nn.relu, "gelu": jax.nn.gelu}[activation]
    router = moe.param("router", "model experts", dtype="float32")
    wi = moe.param("wi", "experts hidden model", fan_in("model"))
    wo = moe.param("wo", "experts model hidden", fan_in("hidden"))

    scores = moe.softmax(moe.matmul(x, router))
    choice = moe.drop(moe.top_k(scores, k), valid)
    gates = moe.normalize(moe.take(scores, choice))
    balance = moe.load_balance(scores, choice, groups, valid)
    moe.loss("load_balance", balance, balance_weight)

    kept = choice
    if not dropless:
        places = moe.capacity(tokens, experts, capacity_factor, groups)
        kept = moe.assign(choice, places, groups, priority="choice")
    count_drops(choice, kept, valid)
    rows = moe.dispatch(x, kept)
    inner = activate(moe.expert_matmul(rows, wi, transposed=True))
    outer = moe.expert_matmul(inner, wo, transposed=True)
    return moe.combine(outer, gates)


def count_drops(choice: jax.Array, kept: jax.Array, valid: jax.Array) -> None:
    """Record drops of first and of second choices, and tokens by rows they got."""
    chosen, taken = (choice >= 0).astype(jnp.int32), (kept >= 0).astype(jnp.int32)
    over = jnp.sum(chosen - taken, axis=0, dtype=jnp.int32)
    moe.metric("over_capacity", over)
    times = jnp.sum(taken, axis=1, keepdims=True, dtype=jnp.int32)
    found = (times == jnp.arange(choice.shape[1] + 1)[None]) & valid[:, None]
    moe.metric("dispatched", jnp.sum(found.astype(jnp.int32), axis=0, dtype=jnp.int32))
