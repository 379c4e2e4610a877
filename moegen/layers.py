"""Finding a layer: by the name of one that ships, or as FILE.py:FUNCTION."""

import importlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from ir.errors import (
    BadArgument,
    LayerNotFound,
    LayerRaised,
    MoegenError,
    UnreadableLayerFile,
    nearest,
)
from moegen.places import place_of_error
from moegen.signature import Layer

SHIPPED: Mapping[str, str] = {
    "glam": "examples.glam_moe:glam_moe",
    "glam_dense": "examples.glam_dense:glam_dense",
    "switch": "examples.switch_moe:switch_moe",
    "gshard": "examples.gshard_moe:gshard_moe",
    "mixtral": "examples.mixtral_moe:mixtral_moe",
    "deepseek": "examples.deepseek_moe:deepseek_moe",
    "expert_choice": "examples.expert_choice_moe:expert_choice_moe",
    "hash": "examples.hash_moe:hash_moe",
}


def find_layer(name: str) -> Layer:
    """The layer that `name` means; a file may import modules that lie beside it.

    Raises `LayerNotFound` with the nearest name, `BadArgument` for a file without its
    function, `UnreadableLayerFile` for one that is missing or is not Python,
    `LayerRaised` for one that fails when it is run.
    """
    if name in SHIPPED:
        module, _, function = SHIPPED[name].partition(":")
        found: Layer = getattr(importlib.import_module(module), function)
        return found
    path, colon, function = name.rpartition(":")
    if name.endswith(".py"):
        reason = f"'{name}' names a file: name its function too, as in {name}:layer"
        raise BadArgument(reason=reason)
    if not colon or not path.endswith(".py"):
        close = nearest(name, list(SHIPPED))
        listed = ", ".join(SHIPPED)
        have = f"the layers that ship are {listed}; your own is FILE.py:FUNCTION"
        raise LayerNotFound(
            name=name, place="among those that ship", have=have, nearest=close
        )
    return _from_file(Path(path), function)


def _from_file(path: Path, function: str) -> Layer:
    try:
        source = path.read_text(encoding="utf-8")
        compile(source, str(path), "exec")
    except OSError as error:
        raise UnreadableLayerFile(
            path=path, reason=error.strerror or str(error)
        ) from None
    except (UnicodeDecodeError, ValueError):
        raise UnreadableLayerFile(path=path, reason="it is not UTF-8 text") from None
    except SyntaxError as error:
        line = f"line {error.lineno}: " if error.lineno else ""
        reason = f"{line}{error.msg}"
        raise UnreadableLayerFile(path=path, reason=reason) from None
    spec = importlib.util.spec_from_file_location(path.stem, path.resolve())
    if spec is None or spec.loader is None:
        raise UnreadableLayerFile(path=path, reason="it is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(spec.name, module)
    try:
        with _beside(path):
            spec.loader.exec_module(module)
    except MoegenError:
        raise
    except (Exception, SystemExit) as error:
        where = place_of_error(error.__traceback__)
        kind, reason = type(error).__name__, str(error)
        raise LayerRaised(where, layer=str(path), kind=kind, reason=reason) from error
    return _function(module.__dict__, path, function)


@contextmanager
def _beside(path: Path) -> Iterator[None]:
    """Imports find what lies beside a layer file, as when Python runs the file.

    Its folder comes first while the file is loaded. Afterwards it comes last, for what
    the layer imports when it is traced: nobody else's imports may end there.
    """
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        with suppress(ValueError):  # the file may have moved it
            sys.path.remove(folder)
        if folder not in sys.path:
            sys.path.append(folder)


def _function(found: Mapping[str, object], path: Path, function: str) -> Layer:
    layer = found.get(function)
    own = [
        name
        for name, value in found.items()
        if callable(value) and getattr(value, "__module__", "") == path.stem
    ]
    if not callable(layer):
        have = f"it defines {', '.join(own)}" if own else "it defines no function"
        raise LayerNotFound(
            name=function, place=f"in {path}", have=have, nearest=nearest(function, own)
        )
    return layer
