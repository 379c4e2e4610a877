"""One step of training: gradients of a batch over parts and devices, then the update.

Each device takes its own rows, in `accumulate` parts one after another, and the means
over parts and devices are those of the whole batch.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, PartitionSpec

from glam.train.adafactor import Schedule
from glam.train.guard import all_finite, guarded_update
from glam.train.learner import Batch, Learner, Metrics
from glam.train.state import State

AXIS = "data"
# A batch is [parts, rows, ...]: each device has some rows of every part.
ROWS = PartitionSpec(None, AXIS)
Step = Callable[[State, Batch, Any], tuple[State, Metrics]]


def train_step(
    learner: Learner,
    optimizer: optax.GradientTransformation,
    schedule: Schedule,
    mesh: Mesh,
    seed: int,
) -> Any:
    """The jitted step: (state, batch [parts, rows, ...], stop) -> (state, metrics).

    The state that is given is used up. `stop`, bool [devices], comes back in the
    metrics as whether any device was told to stop, so that all processes agree.
    Metrics are those of the loss, and `loss`, `gradient_norm`, `learning_rate`,
    `skipped` and `finite` (whether the weights are finite after the update).
    """
    gradients: Any = jax.shard_map(
        partial(_gradients, learner),
        mesh=mesh,
        in_specs=(PartitionSpec(), ROWS, PartitionSpec(), PartitionSpec(AXIS)),
        out_specs=PartitionSpec(),
        # Gradients stay on their device until all parts are added up, once.
        check_vma=False,
    )

    def step(state: State, batch: Batch, stop: Any) -> tuple[State, Metrics]:
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        loss, found, metrics = gradients(state.params, batch, key, stop)
        params, inner, skipped = guarded_update(
            optimizer, loss, found, state.optimizer, state.params
        )
        metrics |= {
            "loss": loss,
            "gradient_norm": optax.tree.norm(found),
            "learning_rate": schedule(state.step - state.skipped),
            "skipped": skipped,
            "finite": all_finite(params),
        }
        after = State(params, inner, state.step + 1, state.skipped + skipped)
        return after, metrics

    return jax.jit(step, donate_argnums=0)


def _gradients(
    learner: Learner, params: Any, batch: Batch, key: jax.Array, stop: jax.Array
) -> tuple[jax.Array, Any, Metrics]:
    """Means over all parts and devices of the loss, its gradients and metrics."""
    key = jax.random.fold_in(key, jax.lax.axis_index(AXIS))

    def part(number: Any, rows: Batch) -> Any:
        own = jax.random.fold_in(key, number)
        (loss, metrics), found = jax.value_and_grad(learner.loss, has_aux=True)(
            params, rows, own
        )
        return loss, found, metrics

    parts = jax.tree.leaves(batch)[0].shape[0]
    if parts == 1:
        total = part(0, jax.tree.map(lambda rows: rows[0], batch))
    else:
        total = _sum_of_parts(part, batch, parts)
    scale = parts * jax.lax.axis_size(AXIS)
    loss, found, metrics = jax.tree.map(
        lambda value: jax.lax.psum(value, AXIS) / scale, total
    )
    return loss, found, metrics | {"stop": jax.lax.pmax(stop.any(), AXIS)}


def _sum_of_parts(part: Callable[[Any, Batch], Any], batch: Batch, parts: int) -> Any:
    """The sum of `part` over the parts of a batch, one after another."""
    one = jax.eval_shape(part, 0, jax.tree.map(lambda rows: rows[0], batch))
    start = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), one)

    def add(total: Any, told: tuple[Any, Batch]) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, part(*told)), None

    total, _ = jax.lax.scan(add, start, (jnp.arange(parts), batch))
    return total
