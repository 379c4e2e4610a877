"""What our router's kernel finds under a routing: choices, and how often each is made.

Its largest matrix are the weights [E, M]. Results lie with tokens along the lanes:
integers [R, K, N] are the K choices of each of R runs' N tokens, [R, E, L] the rows of
every expert, to be added up over L.
"""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from backends.tpu.profile.routing import Routing

ROUTER = "router"


def router_results(
    inputs: Sequence[Any], outputs: Sequence[Any], routing: Routing
) -> list[Any]:
    """Each result by its abstract value; None where the routing does not say it."""
    choices = next((a for a in outputs if _is_integer(a) and len(a.shape) == 3), None)
    matrices = [a for a in inputs if len(a.shape) == 2 and not _is_integer(a)]
    experts = max(matrices, key=lambda a: a.size).shape[0] if matrices else 0
    if choices is None or choices.shape[1] > experts:
        return [None] * len(outputs)
    runs, k, size = choices.shape
    chosen = routing.choices(runs * size, k, experts).reshape(runs, size, k)
    return [_result(aval, choices.shape, chosen, experts) for aval in outputs]


def _result(
    aval: Any, shape: tuple[int, ...], chosen: np.ndarray[Any, Any], experts: int
) -> Any:
    if not _is_integer(aval):
        return None
    if aval.shape == shape:
        return jnp.asarray(chosen.swapaxes(1, 2), aval.dtype)
    if aval.shape[:-1] != (shape[0], experts):
        return None
    rows = np.stack([np.bincount(run.ravel(), minlength=experts) for run in chosen])
    lanes = np.zeros(aval.shape, np.int32)
    lanes[..., 0] = rows
    return jnp.asarray(lanes, aval.dtype)


def _is_integer(aval: Any) -> bool:
    return bool(jnp.issubdtype(aval.dtype, jnp.integer))
