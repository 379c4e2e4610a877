"""GLaM's mixture-of-experts layer (Du et al. 2021, section 3, and its public code)."""

import jax

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
) -> jax.Array:
    """Top-2 of softmax scores, gates normalised before capacity, ReLU experts.

    Tokens with `valid` false (padding) are neither routed nor counted.
    """
    router = moe.param("router", "model experts", dtype="float32")
    wi = moe.param("wi", "experts hidden model", fan_in("model"))
    wo = moe.param("wo", "experts model hidden", fan_in("hidden"))

    scores = moe.softmax(moe.matmul(x, router))
    choice = moe.drop(moe.top_k(scores, k), valid)
    gates = moe.normalize(moe.take(scores, choice))
    balance = moe.load_balance(scores, choice, groups, valid)
    moe.loss("load_balance", balance, balance_weight)

    places = moe.capacity(tokens, experts, capacity_factor, groups)
    kept = moe.assign(choice, places, groups, priority="choice")
    rows = moe.dispatch(x, kept)
    inner = jax.nn.relu(moe.expert_matmul(rows, wi, transposed=True))
    outer = moe.expert_matmul(inner, wo, transposed=True)
    return moe.combine(outer, gates)
