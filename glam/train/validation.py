"""The loss of held-out data during a run."""

from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from glam.train.learner import Batch, Learner, Metrics
from glam.train.parallel import place
from glam.train.step import AXIS, ROWS


def validation(
    learner: Learner,
    held_out: Callable[[], Iterable[Batch]],
    most: int,
    parts: int,
    mesh: Mesh,
) -> Callable[[Any], dict[str, float]]:
    """A function of parameters: means over the first `most` held-out batches.

    `held_out` gives this process' rows of each batch, always the same. The means are
    of the loss and of every metric that is one number.
    """
    loss: Any = jax.jit(
        jax.shard_map(
            partial(_loss, learner),
            mesh=mesh,
            in_specs=(PartitionSpec(), ROWS),
            out_specs=PartitionSpec(),
            check_vma=False,
        )
    )

    def validate(params: Any) -> dict[str, float]:
        found = [
            jax.device_get(loss(params, place(batch, parts, mesh)))
            for batch in islice(held_out(), most)
        ]
        return {name: float(np.mean([f[name] for f in found])) for name in found[0]}

    return validate


def _loss(learner: Learner, params: Any, batch: Batch) -> Metrics:
    """Means over the parts of a batch, one after another, and over devices."""

    def part(rows: Batch) -> Metrics:
        value, metrics = learner.loss(params, rows, jax.random.key(0))
        return {n: m for n, m in metrics.items() if m.ndim == 0} | {"loss": value}

    means: Metrics = jax.tree.map(
        lambda numbers: jax.lax.pmean(numbers.mean(), AXIS), jax.lax.map(part, batch)
    )
    return means
