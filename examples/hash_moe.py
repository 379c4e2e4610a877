"""Hash layers: the expert follows from the token id alone (Roller et al. 2021)."""

import jax

from moegen import lang as moe
from moegen.initializers import fan_in


def hash_moe(
    x: jax.Array = moe.tensor("tokens model"),
    ids: jax.Array = moe.tensor("tokens", dtype="int32"),
    *,
    tokens: int = 2048,
    model: int = 768,
    hidden: int = 3072,
    experts: int = 64,
    seed: int = 0,
) -> jax.Array:
    """One fixed expert for each token id; no router, no gate, no loss."""
    wi = moe.param("wi", "experts hidden model", fan_in("model"))
    wo = moe.param("wo", "experts model hidden", fan_in("hidden"))

    choice = moe.hash_choice(ids, experts, seed=seed)
    rows = moe.dispatch(x, choice)
    inner = jax.nn.relu(moe.expert_matmul(rows, wi, transposed=True))
    outer = moe.expert_matmul(inner, wo, transposed=True)
    return moe.combine(outer)
