"""GLaM's dense feed-forward layer: GEGLU (Du et al. 2021; Shazeer 2020)."""

import jax

from moegen import lang as moe


def glam_dense(
    x: jax.Array = moe.tensor("tokens model"),
    *,
    tokens: int = 2048,
    model: int = 768,
    hidden: int = 3072,
) -> jax.Array:
    """gelu_tanh(x wi0) * (x wi1), then wo; no experts."""
    wi0 = moe.param("wi0", "model hidden")
    wi1 = moe.param("wi1", "model hidden")
    wo = moe.param("wo", "hidden model")

    gate = jax.nn.gelu(moe.matmul(x, wi0), approximate=True)
    inner = gate * moe.matmul(x, wi1)
    return moe.matmul(inner.astype(x.dtype), wo)
