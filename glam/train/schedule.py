"""The learning rate: a plateau, then the inverse square root of the step."""

from dataclasses import dataclass
from math import isfinite

import jax
import jax.numpy as jnp

from ir.errors import BadArgument


@dataclass(frozen=True)
class InverseSquareRoot:
    """`peak` for the first `plateau` steps, then peak * sqrt(plateau / step).

    With the defaults this is 1 / sqrt(max(step, 10000)) (Du et al. 2021, section 5.1).
    """

    peak: float = 0.01
    plateau: int = 10_000

    def __post_init__(self) -> None:
        if not (isfinite(self.peak) and self.peak > 0):
            raise BadArgument(
                reason=f"the learning rate peak={self.peak} must be a finite number "
                "above 0"
            )
        if self.plateau < 1:
            raise BadArgument(
                reason=f"the learning rate's plateau={self.plateau} must be at least "
                "1 step"
            )

    def __call__(self, step: jax.typing.ArrayLike) -> jax.Array:
        """The rate, f32[], of the step numbered `step` from 0."""
        held = jnp.maximum(jnp.asarray(step, jnp.float32), self.plateau)
        return self.peak * jnp.sqrt(self.plateau / held)
