"""Which NumPy array stands for which tensor."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ir.types import Tensor

Array = NDArray[Any]


def numpy_dtype(kind: Tensor) -> np.dtype[Any]:
    """float64 for every float; integers and bools as they are."""
    return np.dtype(np.float64 if kind.is_float else kind.dtype)


def in_float64(value: Any, kind: Tensor) -> Array:
    """An array-like as the array that stands for a tensor of this type."""
    return np.asarray(value).astype(numpy_dtype(kind), copy=False)
