"""Checks of what a layer hands to moegen.lang, before anything is made of it."""

import math
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from ir.errors import BadName, WrongArgument
from ir.types import DTYPES, Tensor
from moegen.initializers import Init
from moegen.places import user_place
from moegen.session import dtype_name


def require_tensors(op: str, *values: Any) -> None:
    """Raise `WrongArgument` for an operand that is no array."""
    for value in values:
        if not isinstance(value, jax.Array | np.ndarray):
            fix = "pass an input, a parameter, or what a function of the layer returned"
            _refuse(op, "a tensor", value, fix)


def require_whole(op: str, name: str, value: Any) -> int:
    """A size, such as k, as an int; raises `WrongArgument` for anything else."""
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return int(value)
    _refuse(
        op, f"{name} as a whole number", value, "pass a size of the layer, or an int"
    )


def require_number(op: str, name: str, value: Any) -> float:
    """A finite number as a float; raises `WrongArgument` for anything else."""
    kinds = int | float | np.integer | np.floating
    known = isinstance(value, kinds) and not isinstance(value, bool)
    if known and math.isfinite(value):
        return float(value)
    _refuse(op, f"{name} as a finite number", value, "pass an int or a float")


def require_name(kind: str, name: Any) -> None:
    """Raise `BadName` for what cannot be the name of a parameter, loss or metric.

    It becomes a key of a dict, in the IR and in the emitted module.
    """
    why = ""
    if not isinstance(name, str):
        why = "it is not text"
    elif not name.strip():
        why = "it is empty"
    elif not name.isprintable() or '"' in name or "\\" in name:
        why = "it has a quotation mark, a backslash or a control character"
    if why:
        fix = "use letters, digits and _"
        raise BadName(user_place(), kind=kind, name=_quoted(name), why=why, fix=fix)


def require_axes(op: str, axes: Any) -> tuple[str, ...]:
    """`"experts model"` as ("experts", "model"); raises `WrongArgument`."""
    if isinstance(axes, str) and axes.split():
        return tuple(axes.split())
    fix = 'write one text of names, such as "experts model hidden"'
    _refuse(op, "the names of its axes", axes, fix)


def require_init(op: str, init: Any) -> None:
    """Raise `WrongArgument` for an initialiser that is none."""
    if not isinstance(init, Init):
        fix = "pass normal(0.02), fan_in('model'), zeros() or ones()"
        _refuse(op, "an initialiser of moegen.initializers", init, fix)


def require_dtype(op: str, dtype: Any) -> str:
    """The name of a dtype that the IR and JAX both have; raises `WrongArgument`."""
    fix = "use float32, bfloat16, float16, int32 or bool"
    try:
        name = dtype_name(dtype)
    except TypeError:
        name = ""
    if name not in DTYPES:
        _refuse(op, "a dtype of arrays", dtype, fix)
    if dtype_name(jax.dtypes.canonicalize_dtype(jnp.dtype(name))) != name:
        fix = "turn on jax_enable_x64, or use one of 32 bits"
        _refuse(op, "a dtype that JAX has", dtype, fix)
    return name


def _refuse(op: str, expected: str, got: Any, fix: str) -> NoReturn:
    raise WrongArgument(
        user_place(), op=op, expected=expected, got=_spoken(got), fix=fix
    )


def _spoken(value: Any) -> str:
    """A value and its type on one short line; an array by its type alone."""
    if isinstance(value, jax.Array | np.ndarray):
        return f"the tensor {Tensor(tuple(value.shape), dtype_name(value.dtype))}"
    text = " ".join(repr(value).split())
    short = text if len(text) <= 40 else f"{text[:37]}..."
    return short if value is None else f"{short} ({type(value).__name__})"


def _quoted(name: Any) -> str:
    return f"'{name}'" if isinstance(name, str) and name.isprintable() else repr(name)
