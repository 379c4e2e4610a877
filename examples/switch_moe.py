"""Switch Transformer's layer: one expert a token (Fedus et al. 2021)."""

import jax

from moegen import lang as moe
from moegen.initializers import fan_in


def switch_moe(
    x: jax.Array = moe.tensor("tokens model"),
    *,
    tokens: int = 2048,
    model: int = 768,
    hidden: int = 3072,
    experts: int = 64,
    capacity_factor: float = 1.25,
    balance_weight: float = 0.01,
) -> jax.Array:
    """Top-1 of softmax scores, gate not normalised, capacity in token order."""
    router = moe.param("router", "model experts", dtype="float32")
    wi = moe.param("wi", "experts hidden model", fan_in("model"))
    wo = moe.param("wo", "experts model hidden", fan_in("hidden"))

    scores = moe.softmax(moe.matmul(x, router))
    choice = moe.top_k(scores, 1)
    gates = moe.take(scores, choice)
    moe.loss("load_balance", moe.load_balance(scores, choice), balance_weight)

    places = moe.capacity(tokens, experts, capacity_factor, multiple=1)
    rows = moe.dispatch(x, moe.assign(choice, places, priority="token"))
    inner = jax.nn.relu(moe.expert_matmul(rows, wi, transposed=True))
    outer = moe.expert_matmul(inner, wo, transposed=True)
    return moe.combine(outer, gates)
