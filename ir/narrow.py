"""Matrices of one byte an element, for inference: what they are called and can hold."""

from collections.abc import Mapping

# What a user asks for, and the dtype that it is stored in.
STORED: Mapping[str, str] = {"int8": "int8", "fp8": "float8_e4m3fn"}
# The largest number of each dtype that is used; int8 is symmetric, so -128 is not.
LARGEST: Mapping[str, float] = {"int8": 127.0, "float8_e4m3fn": 448.0}


# What a user calls each dtype.
SPOKEN: Mapping[str, str] = {stored: name for name, stored in STORED.items()}


def is_narrow(dtype: str) -> bool:
    """Whether a dtype is one that matrices are stored in with scales."""
    return dtype in LARGEST


def scale_name(matrix: str) -> str:
    """The parameter that holds the scales of a matrix."""
    return f"{matrix}_scale"
