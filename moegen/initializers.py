"""How parameters start: distributions whose scale follows from a named axis.

Fan-in is always one axis, never multiplied by the number of experts (GLaM's public
code), so that a layer's scale does not depend on how many experts it has.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp

Kind = Literal["uniform", "normal", "constant"]


@dataclass(frozen=True)
class Init:
    """A distribution: `scale` is the half-width, the deviation or the value itself.

    With `fan` the scale is divided by the square root of that axis' size.
    """

    kind: Kind
    scale: float
    fan: str | None = None

    @property
    def axes(self) -> tuple[str, ...]:
        return (self.fan,) if self.fan else ()

    def resolve(self, sizes: Mapping[str, Any]) -> dict[str, Any]:
        """Kind and scale as plain numbers, for the IR."""
        fan = float(sizes[self.fan]) if self.fan else 1.0
        return {"kind": self.kind, "scale": self.scale / fan**0.5}


def fan_in(axis: str) -> Init:
    """U(+-sqrt(3 / size of `axis`)): variance 1 / fan-in."""
    return Init("uniform", 3.0**0.5, axis)


def normal(deviation: float, axis: str | None = None) -> Init:
    """N(0, deviation), divided by sqrt(size of `axis`) if one is given."""
    return Init("normal", deviation, axis)


def zeros() -> Init:
    return Init("constant", 0.0)


def ones() -> Init:
    return Init("constant", 1.0)


def draw(
    key: jax.Array, shape: tuple[int, ...], dtype: str, kind: Kind, scale: float
) -> jax.Array:
    """One parameter of a resolved initialiser."""
    if kind == "constant":
        return jnp.full(shape, scale, dtype)
    if kind == "normal":
        values = scale * jax.random.normal(key, shape, jnp.float32)
        return values.astype(dtype)
    values = jax.random.uniform(key, shape, jnp.float32, -scale, scale)
    return values.astype(dtype)
