"""Passes by name: `a,b{option=value},c` as text, as objects, and run in order."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from importlib import import_module
from typing import Any

from ir import mlir
from ir.errors import BadPassOption, UnknownPass, UnknownPassOption, nearest
from ir.passes.base import Pass
from ir.verify import verify

# name -> "module:class"; a backend's passes are added by the driver.
PASSES: Mapping[str, str] = {
    "canonicalize": "ir.passes.canonicalize:Canonicalize",
    "derive-backward": "ir.passes.derive_backward:DeriveBackward",
    "quantise": "ir.passes.quantise:Quantise",
    "fuse": "ir.passes.fuse:Fuse",
    "fuse-router": "ir.passes.fuse_router:FuseRouter",
    "cut": "ir.passes.cut:Cut",
}

Hook = Callable[[str, mlir.Module], None]
_SPEC = re.compile(r"\s*([a-z0-9-]+)\s*(?:\{([^}]*)\})?\s*(?:,|$)")


def parse_passes(text: str, known: Mapping[str, str] = PASSES) -> list[Pass]:
    """The passes of a specification, with their options."""
    passes, position = [], 0
    while position < len(text):
        found = _SPEC.match(text, position)
        if found is None:
            raise UnknownPass(name=text[position:], passes=", ".join(known), nearest="")
        passes.append(make_pass(found[1], _options(found[2] or ""), known))
        position = found.end()
    return passes


def make_pass(
    name: str, options: Mapping[str, str], known: Mapping[str, str] = PASSES
) -> Pass:
    """One pass with options given as text."""
    if name not in known:
        close = nearest(name, list(known))
        raise UnknownPass(name=name, passes=", ".join(known), nearest=close)
    module, _, cls = known[name].partition(":")
    made = getattr(import_module(module), cls)
    declared = {field.name: field for field in fields(made)}
    values = {}
    for option, value in options.items():
        if option not in declared:
            listed = ", ".join(declared) or "none"
            raise UnknownPassOption(name=name, option=option, options=listed)
        values[option] = _value(name, option, value, declared[option].type)
    result: Pass = made(**values)
    return result


def _options(text: str) -> dict[str, str]:
    pairs = (item.partition("=") for item in text.replace(",", " ").split())
    return {key: value or "true" for key, _, value in pairs}


def _value(name: str, option: str, value: str, kind: Any) -> Any:
    if kind in (bool, "bool"):
        if value not in ("true", "false"):
            raise BadPassOption(
                name=name, option=option, value=value, expected="true or false"
            )
        return value == "true"
    if kind in (int, "int"):
        if not value.isdecimal():
            raise BadPassOption(
                name=name, option=option, value=value, expected="a whole number"
            )
        return int(value)
    return value


def run_passes(module: mlir.Module, passes: Sequence[Pass], hook: Hook) -> mlir.Module:
    """Run passes over a copy; `hook(name, module)` sees the module after each.

    The module verifies before the first pass and after every one.
    """
    current = mlir.parse(mlir.print_module(module))
    verify(current, "before the first pass")
    for step in passes:
        with mlir.context():
            step.apply(current)
        # Through text, so that what a reader is shown is what the next pass gets.
        current = mlir.parse(mlir.print_module(current))
        verify(current, f"after {step.name}")
        hook(step.name, current)
    return current
