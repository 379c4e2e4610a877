"""Expert capacity: the choices beyond an expert's places become -1, dropped."""

import jax
import jax.numpy as jnp

from backends.cpu.kernels.row_plan import EXPERTS, place_in_queue

CAPACITY = 16  # places of one expert in one group
GROUPS = 1  # equal runs of consecutive tokens, each with its own places
PRIORITY = "choice"  # or "token": who takes the places first


def drop_over_capacity(ids: jax.Array) -> jax.Array:
    """`ids: int32[T, K]` with -1 for every choice beyond its expert's places.

    Places are taken by priority "choice": all first choices in token order, then
    all second choices, ...; by priority "token": in the order of the flat rows.
    """
    tokens, choices = ids.shape
    grouped_ids = ids.reshape(GROUPS, tokens // GROUPS, choices)
    if PRIORITY == "choice":
        grouped_ids = grouped_ids.swapaxes(1, 2)
    kept = (grouped_ids >= 0) & (grouped_ids < EXPERTS)
    expert = jnp.where(kept, grouped_ids, EXPERTS).astype(jnp.int32)
    queue = expert.reshape(GROUPS, ids.size // GROUPS)
    place = place_in_queue(queue, EXPERTS + 1).reshape(expert.shape)
    grouped_ids = jnp.where(kept & (place < CAPACITY), grouped_ids, -1)
    if PRIORITY == "choice":
        grouped_ids = grouped_ids.swapaxes(1, 2)
    return grouped_ids.reshape(ids.shape)
