"""A small GLaM, a packed batch for it, and its parameters as the oracle has them."""

from functools import cache, partial

import jax
import numpy as np

from glam.model import Config, init
from tests.glam.model import oracle

CONFIG = Config(
    layers=4,
    model=16,
    hidden=24,
    heads=2,
    head=12,
    experts=8,
    vocabulary=40,
    sequence=144,
    groups=2,
    activation_dtype="float32",
    key_block=64,
    tile_rows=16,
)
LENGTHS = ((101, 30), (5, 139))  # of documents; what is left of the 144 is padding


def segments(lengths=LENGTHS, length=CONFIG.sequence):
    rows = np.zeros((len(lengths), length), np.int32)
    for row, documents in zip(rows, lengths, strict=True):
        start = 0
        for number, size in enumerate(documents, start=1):
            row[start : start + size] = number
            start += size
    return rows


def batch(seed=0):
    random = np.random.default_rng(seed)
    shape = (len(LENGTHS), CONFIG.sequence)
    drawn = {n: random.integers(1, 40, shape, np.int32) for n in ("inputs", "targets")}
    return drawn | {"segments": segments()}


def quick(function, *arguments):
    """The function compiled for the arguments, by a compiler that hurries."""
    lowered = jax.jit(function).lower(*arguments)
    return lowered.compile(compiler_options={"xla_backend_optimization_level": 0})


@cache
def params(config=CONFIG, seed=3):
    key = jax.random.key(seed)
    made = quick(partial(init, config), key)(key)
    random = np.random.default_rng(seed)
    for layer in made["blocks"].values():
        for name in {"content", "position"} & layer["attention"].keys():
            # They start at zero, where little would be seen of them.
            shape = layer["attention"][name].shape
            layer["attention"][name] = random.normal(0, 0.5, shape).astype(np.float32)
    return made


def for_oracle(config, tree):
    """Stacked parameters, or gradients, as float64 layer by layer."""
    wide = jax.tree.map(lambda array: np.asarray(array, np.float64), tree)
    layers = []
    for block in range(config.blocks):
        for kind in config.kinds:
            layer = jax.tree.map(lambda array: array[block], wide["blocks"][kind])  # noqa: B023
            merged = layer.pop("attention") | layer.pop("feed_forward")
            layers.append(layer | merged)
    return {
        "embedding": wide["embedding"],
        "final_norm": wide["final_norm"],
        "layers": layers,
    }


def oracle_sizes(config):
    return oracle.Sizes(
        config.layers,
        config.experts,
        config.groups,
        config.capacity_factor,
        config.balance_weight,
        config.z_weight,
        config.activation,
    )


def judged(config, tree, examples):
    """What the oracle says of a batch."""
    parts = (examples[name] for name in ("inputs", "targets", "segments"))
    return oracle.model(oracle_sizes(config), for_oracle(config, tree), *parts)
