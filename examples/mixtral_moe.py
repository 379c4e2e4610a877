"""Mixtral's layer: dropless top-2 of gated SiLU experts (Jiang et al. 2024)."""

import jax

from moegen import lang as moe
from moegen.initializers import fan_in


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
    out_first: bool = True,
) -> jax.Array:
    """Gates are the chosen softmax scores, normalised; no token is dropped.

    Weights are [experts, out, in], as checkpoints have them; a CPU decodes a token at a
    time faster from [experts, in, out].
    """
    up, down = "experts model hidden", "experts hidden model"
    if out_first:
        up, down = down, up
    router = moe.param("router", "model experts", dtype="float32")
    w_gate = moe.param("w_gate", up, fan_in("model"))
    w_up = moe.param("w_up", up, fan_in("model"))
    w_down = moe.param("w_down", down, fan_in("hidden"))

    logits = moe.matmul(x, router)
    scores = moe.softmax(logits)
    choice = moe.top_k(scores, k)
    gates = moe.normalize(moe.take(scores, choice), epsilon=0.0)
    moe.loss("load_balance", moe.load_balance(scores, choice), balance_weight)
    moe.loss("z", moe.z_loss(logits), z_weight)

    rows = moe.dispatch(x, choice)
    gate = jax.nn.silu(moe.expert_matmul(rows, w_gate, transposed=out_first))
    inner = gate * moe.expert_matmul(rows, w_up, transposed=out_first)
    outer = moe.expert_matmul(inner, w_down, transposed=out_first)
    return moe.combine(outer, gates)
