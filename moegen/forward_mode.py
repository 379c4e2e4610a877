"""Forward-mode differentiation of a layer is refused in our own words.

A layer has a custom vjp. JAX finds out that one is asked for a jvp only when it runs
or lowers the tangents, behind any `jax.jit`, and its sentence names no layer. So an
input's tangent passes through a linear primitive of ours: reverse mode transposes it,
which leaves nothing of it, and whatever runs or lowers it is forward mode.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from ir.errors import ForwardMode

_TANGENT = Primitive("moegen.tangent")


def _run(_: Any, *, layer: str) -> NoReturn:
    raise ForwardMode(layer=layer)


def _batch(
    tangents: Sequence[jax.Array], axes: Sequence[Any], *, layer: str
) -> tuple[Any, Any]:
    return _TANGENT.bind(tangents[0], layer=layer), axes[0]


def _transpose(cotangent: Any, _: Any, *, layer: str) -> list[Any]:
    return [cotangent]


def _lower(_context: Any, _: Any, *, layer: str) -> NoReturn:
    raise ForwardMode(layer=layer)


_TANGENT.def_impl(_run)
_TANGENT.def_abstract_eval(lambda tangent, *, layer: tangent)
ad.deflinear2(_TANGENT, _transpose)
batching.primitive_batchers[_TANGENT] = _batch
mlir.register_lowering(_TANGENT, _lower)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _guarded(layer: str, params: Any, arrays: list[Any]) -> list[Any]:
    return arrays


@_guarded.defjvp
def _guarded_jvp(
    layer: str, primals: tuple[Any, Any], tangents: tuple[Any, Any]
) -> tuple[list[Any], list[Any]]:
    arrays, moved = primals[1], list(tangents[1])
    for index, array in enumerate(arrays):
        if jnp.issubdtype(jnp.result_type(array), jnp.floating):
            moved[index] = _TANGENT.bind(moved[index], layer=layer)
    return arrays, moved


def reverse_only(layer: str, params: Any, arrays: list[Any]) -> list[Any]:
    """The inputs of a layer as they are; forward mode through them is `ForwardMode`.

    Also where only `params` are differentiated.
    """
    made: list[Any] = _guarded(layer, params, arrays)
    return made
