"""All that a run is between two steps, and its flat form in checkpoints."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from glam.train.learner import Learner


class State(NamedTuple):
    """`step` counts the batches taken, int32[], and `skipped` those without an update.

    Random numbers of a step come from the run's seed and `step`: there is no key here.
    """

    params: Any
    optimizer: Any
    step: jax.Array
    skipped: jax.Array


def first_state(
    learner: Learner, optimizer: optax.GradientTransformation, seed: int, mesh: Mesh
) -> State:
    """A run's first state, whole on every device of `mesh`."""

    def make() -> State:
        params = learner.init(jax.random.key(seed))
        zero = jnp.zeros((), jnp.int32)
        return State(params, optimizer.init(params), zero, zero)

    made: State = jax.jit(make, out_shardings=everywhere(mesh))()
    return made


def everywhere(mesh: Mesh) -> NamedSharding:
    """The sharding of an array that each device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def flat(state: Any) -> dict[str, Any]:
    """The leaves of a state by name, as `params/blocks/wi`."""
    leaves, _ = jax.tree.flatten_with_path(state)
    return {jax.tree_util.keystr(p, simple=True, separator="/"): x for p, x in leaves}


def unflat(arrays: Mapping[str, Any], like: Any) -> Any:
    """The inverse of `flat`, in the structure of `like`."""
    return jax.tree.unflatten(jax.tree.structure(like), [arrays[n] for n in flat(like)])


def abstract(state: Any, mesh: Mesh) -> Any:
    """Shapes and dtypes of a state, to be restored whole on each device of `mesh`."""
    sharding = everywhere(mesh)

    def describe(leaf: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    return jax.tree.map(describe, state)
