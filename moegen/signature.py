"""A layer's signature: which tensors it takes, and which sizes and options."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from ir.errors import (
    MissingSize,
    NotALayer,
    SizeNotPositive,
    UnknownSize,
    Where,
    WrongOptionType,
    nearest,
)
from moegen.keywords import TAKEN
from moegen.lang import Input

Layer = Callable[..., Any]
_SPOKEN = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "True or False",
}


@dataclass(frozen=True)
class Signature:
    """Inputs by name, and the sizes and options that the caller settled on."""

    layer: str
    where: Where | None
    inputs: Mapping[str, Input]
    sizes: Mapping[str, Any]


def without_jit(layer: Layer) -> Layer:
    """The function that `jax.jit` was put around: a layer is compiled as a whole."""
    while isinstance(layer, jax.stages.Wrapped) and hasattr(layer, "__wrapped__"):
        layer = layer.__wrapped__
    return layer


def layer_name(layer: Layer) -> str:
    return getattr(layer, "__name__", "layer")


def read_signature(layer: Layer, given: Mapping[str, Any]) -> Signature:
    """Split a layer's arguments; raises for what is missing, unknown or mistyped."""
    name, where = layer_name(layer), _defined_at(layer)
    if not callable(layer):
        raise NotALayer(where, what=f"a layer is a function, and this is {layer!r}")
    inputs, sizes = {}, {}
    for parameter in _arguments(layer, name, where):
        if parameter.name in TAKEN:
            what = (
                f"the argument '{parameter.name}' of the layer '{name}' has a name "
                "that moegen.compile keeps for itself: rename it"
            )
            raise NotALayer(where, what=what)
        if isinstance(parameter.default, Input):
            inputs[parameter.name] = parameter.default
        elif parameter.kind is parameter.KEYWORD_ONLY:
            sizes[parameter.name] = parameter.default
        else:
            what = (
                f"the argument '{parameter.name}' of the layer '{name}' says neither "
                f'tensor nor size: write {parameter.name}=tensor("tokens model"), or '
                "put it after a * if it is a size"
            )
            raise NotALayer(where, what=what)
    if not inputs:
        what = f"the layer '{name}' takes no tensor: write x=tensor(\"tokens model\")"
        raise NotALayer(where, what=what)
    return Signature(name, where, inputs, _settle(name, where, sizes, given))


def _arguments(layer: Layer, name: str, where: Where | None) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(layer).parameters.values())
    except ValueError:
        what = f"a layer is a function of Python, and '{name}' is not"
        raise NotALayer(where, what=what) from None


def _settle(
    layer: str,
    where: Where | None,
    declared: Mapping[str, Any],
    given: Mapping[str, Any],
) -> dict[str, Any]:
    for size in given:
        if size not in declared:
            listed = ", ".join(declared) or "none"
            close = nearest(size, list(declared))
            raise UnknownSize(
                where, layer=layer, size=size, sizes=listed, nearest=close
            )
    settled = {}
    for size, default in declared.items():
        value = given.get(size, default)
        if value is inspect.Parameter.empty:
            raise MissingSize(where, layer=layer, size=size)
        settled[size] = _typed(layer, where, size, default, value)
    return settled


def _typed(layer: str, where: Where | None, size: str, default: Any, value: Any) -> Any:
    """A value of its default's type; a whole number will do for a float."""
    if isinstance(value, np.integer):
        value = int(value)
    required = default is inspect.Parameter.empty
    expected = int if required else type(default)
    if default is None or type(value) is expected:
        return value
    if expected is float and type(value) is int:
        return float(value)
    if required:
        raise SizeNotPositive(where, size=size, value=value)
    raise WrongOptionType(
        where,
        size=size,
        value=value,
        layer=layer,
        got=_spoken(type(value)),
        default=default,
        expected=_spoken(expected),
    )


def _spoken(kind: type) -> str:
    return _SPOKEN.get(kind, f"of type {kind.__name__}")


def _defined_at(layer: Layer) -> Where | None:
    code = getattr(layer, "__code__", None)
    return Where(code.co_filename, code.co_firstlineno) if code else None
