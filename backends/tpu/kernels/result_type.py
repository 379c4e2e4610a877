"""The type of a kernel's result, inside `shard_map` and outside of it."""

from typing import Any

import jax
from jax.sharding import ManualAxisType


def result_type(
    shape: tuple[int, ...], dtype: Any, *operands: jax.Array
) -> jax.ShapeDtypeStruct:
    """A result that varies over every mesh axis that an operand varies over."""
    axes = (jax.typeof(operand).manual_axis_type.varying for operand in operands)
    varying = ManualAxisType(varying=frozenset().union(*axes))
    return jax.ShapeDtypeStruct(shape, dtype, manual_axis_type=varying)
