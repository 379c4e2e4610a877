"""Put an emitted module together: imports, constants, kernels, the layer's functions.

A package has its kernels in files of their own, named as the modules that they come
from, and its IR in a file; a single module holds all of it.
"""

import ast
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from backends.emitted import Emitted
from backends.layout import WIDTH, fill, wrap_call
from backends.splice import Part

IR_FILE = "layer.mlir"
_ALIASES = (
    "Arrays = tuple[jax.Array, ...]",
    "Params = dict[str, jax.Array]",
    "Aux = dict[str, Any]",
    "Gradients = tuple[Any, ...]",
    "Saved = tuple[Any, ...]",
    "Cotangents = tuple[jax.Array, Aux]",
)
_IMPORTS = (
    "import jax",
    "import jax.numpy as jnp",
    "from jax import lax",
    "from jax.experimental import pallas as pl",
    "from jax.experimental.pallas import tpu as pltpu",
    "from jax.sharding import ManualAxisType",
)
_TYPING = "from typing import Any"


@dataclass(frozen=True)
class LayerText:
    """The layer's own text: what it is, its functions, and its IR."""

    head: str
    functions: Sequence[str]
    ir: str


def single(layer: LayerText, parts: Iterable[Part]) -> Emitted:
    """One module, with the IR as a comment at its end."""
    parts = list(parts)
    kernels = [text for part in parts for text in part.definitions]
    body = _joined([*kernels, *map(_formatted, layer.functions)])
    constants = dict.fromkeys(text for part in parts for text in part.constants)
    top = _top(constants)
    imports = [line for part in parts for line in part.imports]
    blocks = _import_blocks(imports, {}, f"{top}\n{body}")
    tail = "\n".join(f"# {line}".rstrip() for line in layer.ir.rstrip().split("\n"))
    note = "# The IR that this module was emitted from, after its last pass:"
    text = "\n\n".join((layer.head, *blocks, top)) + f"\n\n\n{body}"
    return Emitted(f"{text}\n\n\n{note}\n#\n{tail}\n")


def package(
    layer: LayerText, parts: Iterable[Part], exported: Iterable[str]
) -> Emitted:
    """A package whose own module is the layer; it also has the names `exported`."""
    parts = list(parts)
    body, top = _joined(map(_formatted, layer.functions)), _top({})
    own = {alias.split(" =")[0] for alias in _ALIASES}
    used = ({*names_in(body)} - own) | set(exported)
    beside = {part.name: tuple(sorted(part.names & used)) for part in parts}
    blocks = _import_blocks([], beside, f"{top}\n{body}")
    text = "\n\n".join((layer.head, *blocks, top)) + f"\n\n\n{body}\n"
    files = {f"{part.name}.py": _file(part) for part in parts}
    return Emitted(text, {**files, IR_FILE: layer.ir})


def _file(part: Part) -> str:
    """A kernel module, as it was made for the layer."""
    constants = "\n".join(map(_filled, part.constants))
    body = _joined(part.definitions)
    blocks = _import_blocks(part.imports, part.beside, f"{constants}\n{body}")
    blocks += [constants] if constants else []
    text = "\n\n".join((f'"""{part.doc}"""', *blocks))
    return f"{text}\n\n\n{body}\n" if body else f"{text}\n"


def _joined(functions: Iterable[str]) -> str:
    return "\n\n\n".join(text.strip("\n") for text in functions)


def _top(constants: Iterable[str]) -> str:
    """Constants, and names of types that none of them stands for."""
    filled = [_filled(constant) for constant in constants]
    defined = {constant.split(" =")[0].split("\n")[-1] for constant in filled}
    aliases = [a for a in _ALIASES if a.split(" =")[0] not in defined]
    return "\n".join((*filled, *aliases))


def _filled(constant: str) -> str:
    return "\n".join(map(fill, constant.split("\n")))


def _formatted(text: str) -> str:
    return "\n".join(wrap_call(line) for line in text.split("\n"))


def _import_blocks(
    found: Iterable[str], beside: Mapping[str, tuple[str, ...]], text: str
) -> list[str]:
    """Import statements for the names that `text` uses: Python's, JAX's, ours."""
    used = names_in(text)
    own: dict[str, set[str]] = {}
    for line in (*found, _TYPING):
        if line.startswith("from ") and not line.startswith("from jax"):
            module, _, names = line.removeprefix("from ").partition(" import ")
            own.setdefault(module, set()).update(names.split(", "))
    python = [
        f"from {module} import {', '.join(sorted(names & used))}"
        for module, names in sorted(own.items())
        if names & used
    ]
    theirs = [line for line in _IMPORTS if line.split()[-1] in used]
    ours = [_relative(m, names) for m, names in sorted(beside.items()) if names]
    return ["\n".join(block) for block in (python, theirs, ours) if block]


def _relative(module: str, names: Iterable[str]) -> str:
    """An import from a file beside: constants, then classes, then functions."""
    listed = sorted(names, key=lambda name: (not name.isupper(), name.islower(), name))
    line = f"from .{module} import {', '.join(listed)}"
    if len(line) <= WIDTH:
        return line
    return "\n".join((f"from .{module} import (", *(f"    {n}," for n in listed), ")"))


def names_in(text: str) -> frozenset[str]:
    """The names that Python source reads or writes; no attributes, no keywords."""
    return frozenset(n.id for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Name))
