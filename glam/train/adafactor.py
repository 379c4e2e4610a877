"""Adafactor (Shazeer and Stern 2018) as GLaM sets it, put together from optax.

optax's stages compute the paper's formulas on one array, and `optax.adafactor` with
its defaults agrees with the settings below. It knows nothing of layers stacked on a
leading axis: it would take one RMS over all layers, to clip by and to scale by, and
might factor over the layer axis. Here each layer of a stacked array is a parameter of
its own; all experts of one layer are one parameter.
"""

from collections.abc import Callable
from typing import Any

import jax
import optax

Schedule = Callable[[Any], Any]


def adafactor(
    schedule: Schedule, stacked: Any, least_factored: int = 128
) -> optax.GradientTransformation:
    """The optimizer of section 5.1 of Du et al. 2021: no momentum, no weight decay.

    `stacked` is a tree of bools shaped like the parameters: True where axis 0 counts
    layers. Second moments decay by 1 - (step + 1)^-0.8 and are factored over the two
    largest axes where both have `least_factored` elements; an update is clipped to an
    RMS of 1 and scaled by the parameter's RMS, at least 1e-3, and by the schedule.
    """
    labels = jax.tree.map(lambda layered: "layers" if layered else "whole", stacked)
    one = _one_parameter(least_factored)
    return optax.chain(
        optax.partition({"whole": one, "layers": _each_layer(one)}, labels),
        optax.scale_by_learning_rate(schedule),
    )


def _one_parameter(least_factored: int) -> optax.GradientTransformation:
    return optax.chain(
        optax.scale_by_factored_rms(
            decay_rate=0.8, min_dim_size_to_factor=least_factored, epsilon=1e-30
        ),
        optax.clip_by_block_rms(1.0),
        optax.scale_by_param_block_rms(1e-3),
    )


def _each_layer(one: optax.GradientTransformation) -> optax.GradientTransformation:
    def init(params: Any) -> Any:
        return jax.vmap(one.init)(params) if jax.tree.leaves(params) else ()

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        if not jax.tree.leaves(updates):
            return updates, state
        stepped: tuple[Any, Any] = jax.vmap(one.update)(updates, state, params)
        return stepped

    return optax.GradientTransformation(init, update)
