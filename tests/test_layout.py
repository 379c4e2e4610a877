"""The house rules that a machine can check: who imports whom, and how files look."""

import ast
import re
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# What each package may import besides itself. Other projects are free to all but
# kernels and examples, which get the standard library, jax and numpy.
BELOW: dict[str, set[str]] = {
    "ir": set(),
    "backends": {"ir"},
    "moegen": {"backends", "ir"},
    "glam": {"moegen", "backends", "ir", "examples"},
    "bench": {"glam", "moegen", "backends", "ir", "examples"},
    "examples": {"moegen"},
}
NUMERIC = {"jax", "numpy"}
LONGEST_FILE = 400
# In two halves, so that this file does not hold what it forbids.
UNFINISHED = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|NotImplemented" + r"Error)\b")


def python_files(*folders: str) -> list[Path]:
    found = (file for folder in folders for file in (ROOT / folder).rglob("*.py"))
    return sorted(file.relative_to(ROOT) for file in found)


def module_name(file: Path) -> str:
    parts = file.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = python_files(*BELOW, "tests")
MODULES = {module_name(file): file for file in FILES if file.parts[0] in BELOW}


def imports(file: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of each import; `from a import b` gives `a.b`."""
    package = module_name(file).split(".")
    if file.name != "__init__.py":
        package.pop()
    for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            origin = [*above, *([node.module] if node.module else [])]
            for alias in node.names:
                yield node.lineno, ".".join([*origin, alias.name])


def within(name: str, module: str) -> bool:
    return name == module or name.startswith(module + ".")


def loaded(imported: str) -> str:
    """The module that an import names: `a.b`, or `a` where b is something in it."""
    return imported if imported in MODULES else imported.rpartition(".")[0]


def is_kernel(name: str) -> bool:
    return re.match(r"backends\.\w+\.kernels\b", name) is not None


def may_import(importer: str, imported: str) -> bool:
    top = imported.partition(".")[0]
    if top in sys.stdlib_module_names:
        return True
    if is_kernel(importer):
        return top in NUMERIC or is_kernel(imported)
    own = importer.partition(".")[0]
    if own == "examples":
        return top in {"examples", "moegen"} | NUMERIC
    return top == own or top in BELOW[own] or top not in {*BELOW, "tests"}


def test_imports_go_one_way() -> None:
    wrong = [
        f"{file}:{line}: {importer} may not import {imported}"
        for importer, file in MODULES.items()
        for line, imported in imports(file)
        if not may_import(importer, imported)
    ]
    assert not wrong, "\n".join(wrong)


def test_no_module_imports_itself_in_a_circle() -> None:
    graph = {
        importer: {loaded(imported) for _, imported in imports(file)} & MODULES.keys()
        for importer, file in MODULES.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        raise AssertionError(" <- ".join(error.args[1])) from None


def test_mlir_has_one_door() -> None:
    wrong = [
        f"{file}:{line}"
        for file in FILES
        if file != Path("ir/mlir.py")
        for line, imported in imports(file)
        if within(imported, "jaxlib.mlir")
    ]
    assert not wrong, f"import MLIR from ir.mlir instead: {wrong}"


def test_no_file_is_a_catch_all() -> None:
    assert not [str(file) for file in FILES if file.name == "utils.py"]


def test_files_are_short() -> None:
    lengths = {
        str(file): len((ROOT / file).read_text(encoding="utf-8").splitlines())
        for file in FILES
    }
    assert not {f: n for f, n in lengths.items() if n > LONGEST_FILE}


def test_nothing_is_left_unfinished() -> None:
    wrong = [
        f"{file}:{number}: {line.strip()}"
        for file in FILES
        for number, line in enumerate(
            (ROOT / file).read_text(encoding="utf-8").splitlines(), start=1
        )
        if UNFINISHED.search(line)
    ]
    assert not wrong, "\n".join(wrong)
