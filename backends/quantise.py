"""How float parameters become one byte an element. Spliced into emitted modules."""

import jax
import jax.numpy as jnp

# name: the axis that products sum over, the dtype that the matrix is stored in
QUANTISED = {"w": (1, "int8")}


def quantise(params: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """`params` with matrices in one byte an element, and `w_scale` for each `w`."""
    made = {}
    for name, value in params.items():
        made[name] = value
        if name in QUANTISED:
            axis, stored = QUANTISED[name]
            made[name], made[f"{name}_scale"] = quantise_channels(value, axis, stored)
    return made


def quantise_channels(
    weights: jax.Array, axis: int, stored: str
) -> tuple[jax.Array, jax.Array]:
    """The matrix in one byte an element, and float32 scales, as it is without `axis`.

    A channel is a slice along `axis`. Its scale is its largest |w|, divided by 127 for
    int8 and by 448 for float8_e4m3fn; stored is w / scale, rounded to the nearest, ties
    to even, or zeros where the scale is zero, infinite or NaN. All in float32.
    """
    largest = 127.0 if stored == "int8" else 448.0
    wide = weights.astype(jnp.float32)
    scale = jnp.max(jnp.abs(wide), axis, keepdims=True) / largest
    usable = (scale > 0) & (scale < jnp.inf)
    steps = jnp.clip(jnp.where(usable, wide / scale, 0), -largest, largest)
    if stored == "int8":
        steps = jnp.round(steps)
    return steps.astype(stored), jnp.squeeze(scale, axis)
