"""What emission makes: one module, or a package of a layer and the kernels it calls.

Either is run from the texts themselves, never from files read a second time; the files
are what a person reads, and what a child process is given.
"""

import os
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

PACKAGE = "__init__.py"  # a package's own text, which is the layer
_RUNNING = threading.RLock()  # two of one name would take each other's modules away


@dataclass(frozen=True)
class Emitted:
    """The layer's own module; in a package, the files beside it by their names."""

    text: str
    beside: Mapping[str, str] = field(default_factory=dict)

    def files(self, name: str) -> dict[str, str]:
        """Every file's text by its path below a folder; the layer's own is the last."""
        if not self.beside:
            return {f"{name}.py": self.text}
        held = {f"{name}/{file}": text for file, text in self.beside.items()}
        return {**held, f"{name}/{PACKAGE}": self.text}

    def followed_by(self, text: str) -> "Emitted":
        """The same with more behind the layer's own text."""
        return replace(self, text=self.text + text)

    def write(self, folder: Path, name: str) -> Path:
        """Write all files into a folder that is there; where the layer's own lies."""
        path = folder
        for file, text in self.files(name).items():
            path = folder / file
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return path

    def run(self, name: str, place: str) -> ModuleType:
        """The module, under a name of its own; `place` is the file of the layer's text.

        It stays in `sys.modules`, where one of that name is replaced.
        """
        with _RUNNING:
            return self._run(name, place)

    def _run(self, name: str, place: str) -> ModuleType:
        for other in list(sys.modules):
            if other == name or other.startswith(f"{name}."):
                del sys.modules[other]
        module = ModuleType(name)
        module.__file__ = place
        sys.modules[name] = module
        if not self.beside:
            _execute(self.text, place, module)
            return module
        module.__package__, module.__path__ = name, []
        finder = _Beside(name, self.beside, os.path.dirname(place))
        sys.meta_path.insert(0, finder)
        try:
            _execute(self.text, place, module)
        finally:
            sys.meta_path.remove(finder)
        return module


def read_emitted(path: Path) -> Emitted:
    """The module in a file, with all that lies beside it where it is a package's.

    Raises OSError, UnicodeError.
    """
    beside = sorted(path.parent.glob("*.py")) if path.name == PACKAGE else []
    texts = {f.name: f.read_text(encoding="utf-8") for f in beside if f.name != PACKAGE}
    return Emitted(path.read_text(encoding="utf-8"), texts)


class _Beside(MetaPathFinder, Loader):
    """Finds the modules of one package among texts."""

    def __init__(self, package: str, texts: Mapping[str, str], folder: str) -> None:
        self._package = package
        self._texts = texts
        self._folder = folder

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        package, _, _ = name.rpartition(".")
        if package != self._package or _file_of(name) not in self._texts:
            return None
        place = os.path.join(self._folder, _file_of(name))
        return spec_from_loader(name, self, origin=place)

    def exec_module(self, module: ModuleType) -> None:
        place = os.path.join(self._folder, _file_of(module.__name__))
        module.__file__ = place
        _execute(self._texts[_file_of(module.__name__)], place, module)


def _file_of(name: str) -> str:
    return f"{name.rpartition('.')[2]}.py"


def _execute(text: str, place: str, module: ModuleType) -> None:
    exec(compile(text, place, "exec", dont_inherit=True), module.__dict__)
