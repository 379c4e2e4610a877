"""Mixtral's layer: dropless top-2 of gated SiLU experts (Jiang et al. 2024)."""

import jax

from moegen import lang as moe


def mixtral_moe(
    x: jax.Array = moe.tensor("tokens model"),
    *,
    tokens: int = 2048,
    model: int = 768,
    hidden: int = 3072,
    experts: int = 64,
    k: int = 2,
    balance_weight: float = 0.02,
    z_weight: float = 0.001,
) -> jax.Array:
    """Gates are the chosen softmax scores, normalised; no token is dropped."""
    router = moe.param("router", "model experts", dtype="float32")
    w_gate = moe.param("w_gate", "experts model hidden")
    w_up = moe.param("w_up", "experts model hidden")
    w_down = moe.param("w_down", "experts hidden model")

    logits = moe.matmul(x, router)
    scores = moe.softmax(logits)
    choice = moe.top_k(scores, k)
    gates = moe.normalize(moe.take(scores, choice), epsilon=0.0)
    moe.loss("load_balance", moe.load_balance(scores, choice), balance_weight)
    moe.loss("z", moe.z_loss(logits), z_weight)

    rows = moe.dispatch(x, choice)
    gate = jax.nn.silu(moe.expert_matmul(rows, w_gate))
    inner = gate * moe.expert_matmul(rows, w_up)
    return moe.combine(moe.expert_matmul(inner, w_down), gates)
