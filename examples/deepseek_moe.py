"""DeepSeek-V3's layer: many small experts and a shared one (DeepSeek-AI 2024)."""

import jax

from moegen import lang as moe
from moegen.initializers import fan_in, zeros


def deepseek_moe(
    x: jax.Array = moe.tensor("tokens model"),
    *,
    tokens: int = 2048,
    model: int = 768,
    hidden: int = 384,
    shared: int = 384,
    experts: int = 64,
    k: int = 8,
    scale: float = 2.5,
    balance_weight: float = 0.0001,
) -> jax.Array:
    """Sigmoid scores; a bias corrects the choice and never the gates (section 2.1.2).

    The bias gets no gradient: training moves it by the load that the op reports.
    """
    router = moe.param("router", "model experts", dtype="float32")
    bias = moe.param("bias", "experts", init=zeros(), dtype="float32")
    w_gate = moe.param("w_gate", "experts hidden model", fan_in("model"))
    w_up = moe.param("w_up", "experts hidden model", fan_in("model"))
    w_down = moe.param("w_down", "experts model hidden", fan_in("hidden"))
    s_gate = moe.param("s_gate", "model shared")
    s_up = moe.param("s_up", "model shared")
    s_down = moe.param("s_down", "shared model")

    scores = jax.nn.sigmoid(moe.matmul(x, router))
    choice = moe.top_k(scores + bias, k)
    gates = scale * moe.normalize(moe.take(scores, choice), epsilon=1e-20)
    moe.loss("load_balance", moe.load_balance(scores, choice), balance_weight)

    rows = moe.dispatch(x, choice)
    gate = jax.nn.silu(moe.expert_matmul(rows, w_gate, transposed=True))
    inner = gate * moe.expert_matmul(rows, w_up, transposed=True)
    outer = moe.expert_matmul(inner, w_down, transposed=True)
    routed = moe.combine(outer, gates)
    dense = jax.nn.silu(moe.matmul(x, s_gate)) * moe.matmul(x, s_up)
    return routed + moe.matmul(dense.astype(x.dtype), s_down)
