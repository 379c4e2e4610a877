"""What the trainer needs to know of a model: five things, and none of its insides."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax

Batch: TypeAlias = Mapping[str, Any]
Metrics: TypeAlias = dict[str, jax.Array]
Loss: TypeAlias = Callable[[Any, Batch, jax.Array], tuple[jax.Array, Metrics]]


@dataclass(frozen=True)
class Learner:
    """A model as something to train.

    `init` makes the parameters from a key. `loss` of (parameters, a part of a batch, a
    key) is a mean over that part's rows, f32[], with metrics that are means or sums
    over them; all parts of a batch are of one size. `stacked` says for each parameter
    whether its axis 0 counts layers. `identity` tells models apart, as plain JSON, and
    is kept in checkpoints. `flops` is FLOPs a token, forward and backward.
    """

    init: Callable[[jax.Array], Any]
    loss: Loss
    stacked: Any
    identity: Mapping[str, Any]
    flops: float
