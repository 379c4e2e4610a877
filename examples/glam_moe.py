"""GLaM's mixture-of-experts layer (Du et al. 2021, section 3; public code)."""

import jax

from moegen.lang import (
    assign, capacity, combine, dispatch, drop, expert_matmul, load_balance, loss,
    matmul, normalize, param, softmax, take, tensor, top_k,
)  # fmt: skip


def glam_moe(
    x: jax.Array = tensor("tokens model"),
    valid: jax.Array = tensor("tokens", dtype="bool", default="ones"),
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
    """Top-2 of softmax scores, gates normalised before capacity, ReLU experts."""
    router = param("router", "model experts", dtype="float32")
    wi = param("wi", "experts model hidden")
    wo = param("wo", "experts hidden model")

    scores = softmax(matmul(x, router))
    choice = top_k(scores, k)
    gates = normalize(take(scores, choice))
    choice = drop(choice, valid)
    loss("load_balance", load_balance(scores, choice, groups, valid), balance_weight)

    kept = assign(choice, capacity(tokens, experts, capacity_factor, groups), groups)
    rows = dispatch(x, kept)
    hidden_rows = jax.nn.relu(expert_matmul(rows, wi))
    return combine(expert_matmul(hidden_rows, wo), gates)
