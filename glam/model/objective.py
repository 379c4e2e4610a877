"""The training objective and the metrics of a step."""

from typing import Any

import jax
import jax.numpy as jnp

from glam.model.config import Config
from glam.model.parameters import Params
from glam.model.transformer import Aux, forward

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]


def loss(
    config: Config,
    params: Params,
    batch: Batch,
    key: jax.Array | None = None,
) -> tuple[jax.Array, Metrics]:
    """The scalar to minimise, and what to report; all float32 scalars but `load`.

    `batch` has "inputs", "targets" and "segments", int32 [batch, sequence]. The scalar
    is cross-entropy over all batch * sequence positions (padding adds 0 and counts, as
    in the public code), plus the weighted load-balance losses summed over layers, plus
    `z_weight` * mean log(sum exp(logits))^2.

    Metrics: `loss`, the scalar; `cross_entropy`, nats a token that is no padding;
    `z_loss`, not weighted; `tokens` that are no padding. With experts also
    `load_balance`, the mean over layers (1 at balance); `load`, rows of every expert
    [block, experts]; `load_ratio`, the busiest expert's rows over the mean, the worst
    layer's; `dropped`, the fraction of choices without a place; `dead_experts` without
    a row, summed over layers.
    """
    logits, aux = forward(
        config, params, batch["inputs"], batch["segments"], batch.get("positions"), key
    )
    valid = (batch["segments"] > 0).astype(jnp.float32)
    log_sum = jax.nn.logsumexp(logits, axis=-1)
    chosen = jnp.take_along_axis(logits, batch["targets"][..., None], axis=-1)[..., 0]
    nats = jnp.sum((log_sum - chosen) * valid)
    z_loss = jnp.sum(jnp.square(log_sum) * valid) / valid.size
    total = nats / valid.size + config.z_weight * z_loss + aux["loss"]
    tokens = jnp.sum(valid)
    metrics = {
        "loss": total,
        "cross_entropy": nats / jnp.maximum(tokens, 1.0),
        "z_loss": z_loss,
        "tokens": tokens,
        **expert_metrics(aux, valid),
    }
    return total, metrics


def expert_metrics(aux: Aux, valid: jax.Array) -> Metrics:
    """What the layers with experts report, over all of them; {} for a dense model."""
    told = aux["metrics"]
    if not told:
        return {}
    load = told["load"].astype(jnp.float32)
    routed = jnp.sum(load, axis=-1)
    mean = jnp.maximum(jnp.mean(load, axis=-1), 1.0 / load.shape[-1])
    found = {
        "load": told["load"],
        "load_ratio": jnp.max(jnp.max(load, axis=-1) / mean),
        "dropped": _dropped(told, routed, valid),
        "dead_experts": jnp.sum(told["dead"]).astype(jnp.float32),
    }
    if "load_balance" in aux["losses"]:
        found["load_balance"] = jnp.mean(aux["losses"]["load_balance"])
    found |= _by_choice(told, jnp.sum(valid))
    return found


def _dropped(told: Any, routed: jax.Array, valid: jax.Array) -> jax.Array:
    """Choices of valid tokens without a place, as a fraction of all they made."""
    choices = (routed + told["dropped"].astype(jnp.float32)) / valid.size
    wanted = choices * jnp.sum(valid)
    missing = jnp.maximum(wanted - routed, 0.0)
    return jnp.sum(missing) / jnp.maximum(jnp.sum(wanted), 1.0)


def _by_choice(told: Any, tokens: jax.Array) -> Metrics:
    """Fractions of tokens: whose choice c found no place, that got n rows."""
    found: Metrics = {}
    for name in ("over_capacity", "dispatched"):
        if name in told:
            counts = jnp.mean(told[name].astype(jnp.float32), axis=0)
            found[name] = counts / jnp.maximum(tokens, 1.0)
    return found
