"""The layers that ship at a small shape, and arguments for them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import moegen
from moegen.layers import find_layer
from moegen.operator import Op

Sizes = dict[str, int]

SMALL = {"tokens": 48, "model": 16, "hidden": 24}


TINY = {"tokens": 12, "model": 8, "hidden": 8}


def small(name: str, sizes: Mapping[str, int] = SMALL, experts: int = 8) -> Sizes:
    """Sizes for a layer that ships."""
    extra = {} if name == "glam_dense" else {"experts": experts}
    return {**sizes, **extra, **({"shared": 8, "k": 3} if name == "deepseek" else {})}


def compiled(name: str, cache: Path, dtype: str = "float32", target: str = "cpu") -> Op:
    return moegen.compile(find_layer(name), target, dtype, cache, **small(name))


def tiny(name: str, cache: Path) -> Op:
    """A layer that XLA compiles in the shortest time."""
    return moegen.compile(find_layer(name), cache=cache, **small(name, TINY, 4))


def arguments(op: Op, seed: int = 0) -> tuple[dict[str, jax.Array], dict[str, Any]]:
    """Parameters and inputs, drawn from a seed."""
    random = np.random.default_rng(seed)
    inputs = {}
    for name, fact in op.inputs.items():
        kind = fact.tensor
        if kind.is_float:
            inputs[name] = jnp.asarray(random.random(kind.shape), kind.dtype)
        elif kind.dtype == "bool":
            inputs[name] = jnp.asarray(random.random(kind.shape) < 0.8)
        else:
            inputs[name] = jnp.asarray(random.integers(0, 99, kind.shape), kind.dtype)
    return op.init(jax.random.key(seed)), inputs
