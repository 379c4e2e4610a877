"""Specialise the source of kernel modules: what runs is their text, made for one layer.

Constants get the layer's values, branches on constants are folded, and only what the
roots reach is kept. Comments and formatting stay, because the text is edited by spans
and never printed anew; so the result is the same on every Python version.
"""

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Part:
    """What is kept of one kernel module: statements as source, in order."""

    name: str  # as the module is imported
    doc: str
    imports: tuple[str, ...]  # of Python and JAX
    beside: Mapping[str, tuple[str, ...]]  # by kernel module, the names used of it
    constants: tuple[str, ...]
    definitions: tuple[str, ...]
    names: frozenset[str]


@dataclass(frozen=True)
class _Piece:
    """A top-level statement of a kernel module."""

    name: str
    text: str
    uses: frozenset[str]
    is_constant: bool


@dataclass(frozen=True)
class _Read:
    """A kernel module, specialised; `beside` says which module has a name."""

    doc: str
    imports: tuple[str, ...]
    beside: Mapping[str, str]
    pieces: Mapping[str, _Piece]


_Place = tuple[str, str]  # a kernel module and a name in it


def splice(
    modules: Iterable[Path], roots: Iterable[str], constants: Mapping[str, Any]
) -> list[Part]:
    """What `roots` need of the kernel modules, specialised to `constants`.

    A root is looked for in the last module that has it. A module stands for all of its
    name: one kernel may import from another target's what this target has of its own.
    """
    read = {path.stem: _read(path, constants) for path in modules}
    owners = {name: module for module, held in read.items() for name in held.pieces}
    needed = _reach({(owners[n], n) for n in roots if n in owners}, read)
    return [
        _part(module, held, {name for owner, name in needed if owner == module})
        for module, held in read.items()
        if any(owner == module for owner, _ in needed)
    ]


def _read(path: Path, constants: Mapping[str, Any]) -> _Read:
    text = path.read_text(encoding="utf-8")
    text = fold_branches(set_constants(text, constants), constants)
    imports: list[str] = []
    beside: dict[str, str] = {}
    for node in ast.parse(text).body:
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        if isinstance(node, ast.ImportFrom) and _is_kernel(node):
            owner = (node.module or "").rpartition(".")[2]
            beside |= {alias.name: owner for alias in node.names}
        else:
            imports.append(ast.unparse(node))
    doc = ast.get_docstring(ast.parse(text), clean=False) or ""
    pieces = {piece.name: piece for piece in _pieces(text)}
    return _Read(doc, tuple(imports), beside, pieces)


def _is_kernel(node: ast.ImportFrom) -> bool:
    return (node.module or "").startswith("backends.")


def _part(module: str, held: _Read, names: set[str]) -> Part:
    kept = [piece for name, piece in held.pieces.items() if name in names]
    used = frozenset().union(*(piece.uses for piece in kept))
    beside: dict[str, list[str]] = {}
    for name in sorted(used - held.pieces.keys()):
        if name in held.beside:
            beside.setdefault(held.beside[name], []).append(name)
    return Part(
        module,
        held.doc,
        tuple(line for line in held.imports if _imported(line, used)),
        {owner: tuple(found) for owner, found in beside.items()},
        tuple(piece.text for piece in kept if piece.is_constant),
        tuple(piece.text for piece in kept if not piece.is_constant),
        frozenset(names),
    )


def _reach(roots: set[_Place], read: Mapping[str, _Read]) -> set[_Place]:
    reached: set[_Place] = set()
    pending = list(roots)
    while pending:
        module, name = pending.pop()
        if (module, name) in reached:
            continue
        reached.add((module, name))
        held = read[module]
        for used in held.pieces[name].uses:
            owner = module if used in held.pieces else held.beside.get(used)
            if owner is not None:
                pending.append((owner, used))
    return reached


def set_constants(text: str, constants: Mapping[str, Any]) -> str:
    """Replace the values of top-level constants, leaving their comments."""
    lines = text.split("\n")
    for node in reversed(ast.parse(text).body):
        name = _constant_name(node)
        if name not in constants or not isinstance(node, ast.Assign):
            continue
        value = node.value
        first, last = value.lineno - 1, (value.end_lineno or value.lineno) - 1
        tail = lines[last][value.end_col_offset or 0 :]
        head = lines[first][: value.col_offset]
        lines[first : last + 1] = [f"{head}{_literal(constants[name])}{tail}"]
    return "\n".join(lines)


def fold_branches(text: str, constants: Mapping[str, Any]) -> str:
    """Replace each `if` on constants by the branch that is taken."""
    while True:
        found = next(iter(_foldable(ast.parse(text), constants)), None)
        if found is None:
            return text
        node, truth = found
        lines = text.split("\n")
        indent = " " * node.col_offset
        if lines[node.lineno - 1].startswith(f"{indent}elif "):
            kept = _later_branch(node, truth, lines, indent)
        else:
            kept = _first_branch(node, truth, lines)
        lines[node.lineno - 1 : node.end_lineno] = kept
        text = "\n".join(lines)


def _first_branch(node: ast.If, truth: bool, lines: list[str]) -> list[str]:
    """What is left of an `if`: the taken branch, where the `if` stood."""
    taken = node.body if truth else node.orelse
    if not taken:
        return []
    inner = lines[taken[0].lineno - 1 : taken[-1].end_lineno]
    if _is_elif(taken, lines):
        return [inner[0].replace("elif ", "if ", 1), *inner[1:]]
    shift = taken[0].col_offset - node.col_offset
    return [line[shift:] if line.strip() else line for line in inner]


def _later_branch(
    node: ast.If, truth: bool, lines: list[str], indent: str
) -> list[str]:
    """What is left of an `elif` behind an `if` that stays."""
    end = node.body[-1].end_lineno or node.lineno
    if truth:
        return [f"{indent}else:", *lines[node.lineno : end]]
    return lines[end : node.end_lineno]


def _is_elif(branch: list[ast.stmt], lines: list[str]) -> bool:
    return lines[branch[0].lineno - 1].lstrip().startswith("elif ")


def _foldable(
    tree: ast.Module, constants: Mapping[str, Any]
) -> Iterable[tuple[ast.If, bool]]:
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.If)
            and _names(node.test)
            and _names(node.test) <= set(constants)
        ):
            yield node, bool(_evaluate(node.test, constants))


def _evaluate(node: ast.expr, constants: Mapping[str, Any]) -> Any:
    """The value of a test made of constants, comparisons and boolean operators."""
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            return constants[name]
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not _evaluate(operand, constants)
        case ast.BoolOp(op=op, values=values):
            truths = [_evaluate(value, constants) for value in values]
            return all(truths) if isinstance(op, ast.And) else any(truths)
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            a, b = _evaluate(left, constants), _evaluate(right, constants)
            return _COMPARE[type(op)](a, b)
    raise ValueError(f"a branch on constants is too complicated: {ast.unparse(node)}")


_COMPARE: dict[type, Any] = {
    ast.Eq: lambda a, b: a == b,
    ast.NotEq: lambda a, b: a != b,
    ast.Lt: lambda a, b: a < b,
    ast.LtE: lambda a, b: a <= b,
    ast.Gt: lambda a, b: a > b,
    ast.GtE: lambda a, b: a >= b,
}


def _pieces(text: str) -> Iterable[_Piece]:
    lines = text.split("\n")
    for node in ast.parse(text).body:
        name = _constant_name(node) or getattr(node, "name", "")
        if not name:
            continue
        # With the comment above; to the line's end, for that behind; no decorators.
        first = node.lineno - 1
        while first and lines[first - 1].startswith("#"):
            first -= 1
        source = "\n".join(lines[first : node.end_lineno])
        yield _Piece(name, source, _names(node), isinstance(node, ast.Assign))


def _constant_name(node: ast.stmt) -> str:
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id
    return ""


def _names(node: ast.AST) -> frozenset[str]:
    return frozenset(n.id for n in ast.walk(node) if isinstance(n, ast.Name))


def _imported(line: str, used: frozenset[str]) -> bool:
    """Whether any name that an import line binds is used."""
    (node,) = ast.parse(line).body
    assert isinstance(node, ast.Import | ast.ImportFrom)
    bound = [(alias.asname or alias.name).split(".")[0] for alias in node.names]
    return any(name in used for name in bound)


def _literal(value: Any) -> str:
    """A constant's value as source: dtypes by their jax.numpy name."""
    if isinstance(value, str) and value in (
        "float32",
        "bfloat16",
        "float16",
        "float64",
    ):
        return f"jnp.{value}"
    return f'"{value}"' if isinstance(value, str) else repr(value)
