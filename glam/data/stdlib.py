"""Text that every machine has: Python's own library, its code and its prose.

The files are those of the Python that runs, so the text differs a little from one
Python version to the next and is the same on every machine with one version.
"""

import ast
import sysconfig
import tokenize
from collections.abc import Iterator
from pathlib import Path

from glam.data.document import Document

# Left out: what others installed, what distributions split off, and tables.
_LEFT_OUT = frozenset(
    {
        "__pycache__",
        "dist-packages",
        "encodings",
        "idlelib",
        "lib2to3",
        "site-packages",
        "test",
        "tests",
        "turtledemo",
    }
)


def code() -> Iterator[Document]:
    """Each source file of the standard library, in the order of their paths."""
    root = Path(sysconfig.get_paths()["stdlib"])
    for path in _files(root):
        text = _read(path)
        if text.strip():
            yield Document(text, f"stdlib/{path.relative_to(root).as_posix()}")


def prose() -> Iterator[Document]:
    """What the library says in English: its docstrings, a document each, and help()."""
    root = Path(sysconfig.get_paths()["stdlib"])
    for path in _files(root):
        place = f"stdlib/{path.relative_to(root).as_posix()}"
        tree = ast.parse(_read(path))
        texts = _topics(tree) if path.stem == "topics" else _docstrings(tree)
        for line, text in texts:
            # A shorter docstring is a label; it teaches nothing about sentences.
            if len(text) >= 80:
                yield Document(text, f"{place}:{line}")


def _files(root: Path) -> list[Path]:
    found = [path.relative_to(root) for path in root.rglob("*.py")]
    kept = [p for p in found if not _LEFT_OUT.intersection(p.parts[:-1])]
    # The build's own settings are in modules named for the machine.
    kept = [p for p in kept if not p.name.startswith("_sysconfigdata")]
    return [root / p for p in sorted(kept, key=lambda p: p.as_posix())]


def _read(path: Path) -> str:
    with tokenize.open(path) as file:
        return file.read()


def _docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, kinds) and (text := ast.get_docstring(node)):
            yield getattr(node, "lineno", 1), text


def _topics(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """The texts behind help(), which `pydoc_data.topics` holds as one dictionary."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            for value in node.values:
                yield value.lineno, str(ast.literal_eval(value))
