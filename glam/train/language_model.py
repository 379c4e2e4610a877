"""GLaM as a `Learner`."""

from dataclasses import replace
from functools import partial
from typing import Any

import jax

from glam.model import abstract, axes, init, loss
from glam.model.config import Config
from glam.model.parameters import is_axes
from glam.train.learner import Batch, Learner, Metrics
from ir.errors import BadArgument

# Told by the trainer itself, for the whole run.
_OWN = ("loss", "tokens")


def language_model(config: Config, parts: int) -> Learner:
    """The model as it is trained with each batch in `parts` parts, devices included.

    `config.groups` counts the groups of a whole batch, which are routed independently;
    each part routes its share of them, so that a batch's loss does not depend on how it
    was divided. Raises `BadArgument` where the groups do not divide over the parts.
    """
    own = replace(config, groups=_groups_of_a_part(config, parts))

    def part_loss(
        params: Any, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, Metrics]:
        total, metrics = loss(own, params, dict(batch), key)
        return total, {n: value for n, value in metrics.items() if n not in _OWN}

    stacked = jax.tree.map(lambda a: a[0] == "block", axes(own), is_leaf=is_axes)
    return Learner(
        partial(init, own), part_loss, stacked, identity(config), flops_a_token(config)
    )


def identity(config: Config) -> dict[str, Any]:
    """What makes two checkpoints those of one model: all that parameters depend on."""
    told = config.to_json()
    # Checkpoints from before there was another position do not name theirs.
    other = {} if config.position == "buckets" else {"position": config.position}
    return {name: told[name] for name in _IDENTITY} | other


_IDENTITY = (
    "layers",
    "model",
    "hidden",
    "heads",
    "head",
    "experts",
    "vocabulary",
    "layer",
    "layer_options",
    "k",
    "activation",
    "parameter_dtype",
)


def _groups_of_a_part(config: Config, parts: int) -> int:
    if config.experts is None or config.capacity_factor is None:
        return config.groups
    if config.groups % parts:
        raise BadArgument(
            reason=f"a batch is taken in {parts} parts (devices x train.accumulate) "
            f"and its {config.groups} routing groups cannot be divided over them: "
            f"make model.groups a multiple of {parts}"
        )
    return config.groups // parts


def parameters(config: Config) -> tuple[int, float]:
    """How many parameters there are, and how many of them a token uses."""
    total, used = 0, 0.0
    for names, leaf in _leaves(config):
        total += leaf.size
        used += leaf.size * _share(config, names)
    return total, used


def flops_a_token(config: Config) -> float:
    """FLOPs a token of training, forward and backward, recomputation left out.

    6 for each weight that a token is multiplied with, the embedding once, as the output
    layer; and attention: 6 * 2 * heads * head for each of the (sequence + 1) / 2 tokens
    that a token sees on average, in each layer; 6 * 3 with Transformer-XL's distances,
    whose projection, once a batch, is left out.
    """
    products: float = sum(
        leaf.size * _share(config, names)
        for names, leaf in _leaves(config)
        if _multiplies_tokens(names)
    )
    seen = (config.sequence + 1) / 2
    products_a_pair = 2 if config.position == "buckets" else 3
    attention = products_a_pair * config.layers * config.heads * config.head * seen
    return 6 * (products + attention)


def _multiplies_tokens(names: tuple[str, ...]) -> bool:
    """Whether it is a matrix, of tokens: not of distances, not a vector a head."""
    own = {*names} - {"block", "buckets"}
    return len(own) >= 2 and "sinusoids" not in own and own != {"heads", "head"}


def _leaves(config: Config) -> list[tuple[tuple[str, ...], Any]]:
    names = jax.tree.leaves(axes(config), is_leaf=is_axes)
    return list(zip(names, jax.tree.leaves(abstract(config)), strict=True))


def _share(config: Config, names: tuple[str, ...]) -> float:
    """The part of an array that one token uses: k experts of all, the router whole."""
    if "experts" in names and "hidden" in names and config.experts:
        return min(config.k, config.experts) / config.experts
    return 1.0
