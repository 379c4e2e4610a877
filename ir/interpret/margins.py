"""By how much a choice of experts was decided; a near-tie may fall otherwise."""

from collections.abc import Callable

import numpy as np

from ir.interpret.arrays import Array
from ir.interpret.moe import best_first


def _gaps(scores: Array) -> Array:
    """Gaps between neighbours in falling order; inf where no rounding could decide."""
    falling = np.take_along_axis(scores, best_first(scores), axis=-1)
    gaps = falling[..., :-1] - falling[..., 1:]
    return np.where(np.isnan(gaps), np.inf, gaps)


def top_k(scores: Array, *, k: int) -> Array:
    return np.asarray(_gaps(scores)[:, :k].min(axis=1, initial=np.inf))


def expert_choice(scores: Array, *, capacity: int) -> Array:
    border = _gaps(scores.T)[:, capacity - 1 : capacity]
    return np.asarray(border.min(initial=np.inf))


MARGINS: dict[str, Callable[..., Array]] = {
    "moe.top_k": top_k,
    "moe.expert_choice": expert_choice,
}
