"""Expert choice: experts pick their tokens (Zhou et al. 2022)."""

import jax

from moegen import lang as moe
from moegen.initializers import fan_in


def expert_choice_moe(
    x: jax.Array = moe.tensor("tokens model"),
    *,
    tokens: int = 2048,
    model: int = 768,
    hidden: int = 3072,
    experts: int = 64,
    capacity_factor: float = 2.0,
) -> jax.Array:
    """Every expert takes its best tokens, as many as all others: balanced by design."""
    router = moe.param("router", "model experts", dtype="float32")
    wi = moe.param("wi", "experts hidden model", fan_in("model"))
    wo = moe.param("wo", "experts model hidden", fan_in("hidden"))

    scores = moe.softmax(moe.matmul(x, router))
    places = moe.capacity(tokens, experts, capacity_factor, multiple=1)
    choice = moe.expert_choice(scores, min(places, tokens))
    gates = moe.take(scores, choice)

    rows = moe.dispatch(x, choice)
    inner = jax.nn.relu(moe.expert_matmul(rows, wi, transposed=True))
    outer = moe.expert_matmul(inner, wo, transposed=True)
    return moe.combine(outer, gates)
