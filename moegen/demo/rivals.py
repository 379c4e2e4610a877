"""Other ways to compute the same layer on this machine, and how they are timed."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp

Params = Mapping[str, jax.Array]
Work = Callable[[], Any]


def capacity_einsum(params: Params, x: jax.Array, k: int, capacity: int) -> jax.Array:
    """One-hot dispatch and combine tensors [T, E, C], as GShard wrote them."""
    gates, choice = _choose(params, x, k)
    experts = params["router"].shape[1]
    chosen = jax.nn.one_hot(choice.T.reshape(-1), experts)  # [K * T, E]: firsts first
    place = ((jnp.cumsum(chosen, axis=0) - 1) * chosen).sum(-1).astype(jnp.int32)
    slots = chosen[:, :, None] * jax.nn.one_hot(place, capacity)[:, None, :]
    slots = slots.reshape(k, -1, experts, capacity)
    weighted = jnp.einsum("ktec,tk->tec", slots, gates)
    rows = jnp.einsum("tec,tm->ecm", slots.sum(0), x)
    inner = jax.nn.relu(jnp.einsum("ecm,emh->ech", rows, params["wi"]))
    out = jnp.einsum("ech,ehm->ecm", inner, params["wo"])
    return jnp.einsum("tec,ecm->tm", weighted, out)


def ragged_dot(params: Params, x: jax.Array, k: int) -> jax.Array:
    """Rows sorted by expert through `jax.lax.ragged_dot`; no token is dropped."""
    gates, choice = _choose(params, x, k)
    order = jnp.argsort(choice.reshape(-1), stable=True)
    sizes = jnp.bincount(choice.reshape(-1), length=params["router"].shape[1])
    inner = jax.nn.relu(jax.lax.ragged_dot(x[order // k], params["wi"], sizes))
    out = jax.lax.ragged_dot(inner, params["wo"], sizes)
    back = out[jnp.argsort(order)].reshape(x.shape[0], k, -1)
    return (back * gates[..., None]).sum(axis=1)


def dense(wi: jax.Array, wo: jax.Array, rows: jax.Array) -> jax.Array:
    """Two plain products: the floating-point work of the experts and nothing else."""
    return jax.nn.relu(rows @ wi) @ wo


def _choose(params: Params, x: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    scores = jax.nn.softmax(x @ params["router"])
    gates, choice = jax.lax.top_k(scores, k)
    return gates / (gates.sum(axis=-1, keepdims=True) + 1e-9), choice


@dataclass(frozen=True)
class Timing:
    """Median seconds, and the median over rounds of its time divided by the first's."""

    name: str
    seconds: float
    ratio: float


def interleaved(works: Mapping[str, Work], rounds: int) -> list[Timing]:
    """Time each once a round, so that a slow spell of the machine slows them all."""
    for work in works.values():
        jax.block_until_ready(work())
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            begin = time.perf_counter()
            jax.block_until_ready(work())
            times[name].append(time.perf_counter() - begin)
    first: Sequence[float] = next(iter(times.values()))
    return [
        Timing(name, median(t), median(a / b for a, b in zip(t, first, strict=True)))
        for name, t in times.items()
    ]
