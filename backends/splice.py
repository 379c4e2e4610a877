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
class Spliced:
    """Pieces of a module: import lines, constants and definitions, in order."""

    imports: tuple[str, ...]
    constants: tuple[str, ...]
    definitions: tuple[str, ...]


@dataclass(frozen=True)
class _Piece:
    """A top-level statement of a kernel module."""

    name: str
    text: str
    uses: frozenset[str]
    is_constant: bool


def splice(
    modules: Iterable[Path], roots: Iterable[str], constants: Mapping[str, Any]
) -> Spliced:
    """What `roots` need of the kernel modules, specialised to `constants`."""
    imports: dict[str, None] = {}
    pieces: dict[str, _Piece] = {}
    for path in modules:
        text = path.read_text(encoding="utf-8")
        text = fold_branches(set_constants(text, constants), constants)
        for piece in _pieces(text, imports):
            pieces[piece.name] = piece
    needed = _reach(set(roots), pieces)
    kept = [piece for name, piece in pieces.items() if name in needed]
    used = " ".join(piece.text for piece in kept)
    return Spliced(
        tuple(line for line in imports if _imported(line, used)),
        tuple(piece.text for piece in kept if piece.is_constant),
        tuple(piece.text for piece in kept if not piece.is_constant),
    )


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


def _pieces(text: str, imports: dict[str, None]) -> Iterable[_Piece]:
    lines = text.split("\n")
    for node in ast.parse(text).body:
        source = "\n".join(lines[node.lineno - 1 : node.end_lineno])
        if isinstance(node, ast.Import | ast.ImportFrom):
            if not source.startswith("from backends."):
                imports[source] = None
            continue
        name = _constant_name(node) or getattr(node, "name", "")
        if not name:
            continue
        # Up to the end of the line, for the comment behind it; decorators never occur.
        yield _Piece(name, source, _names(node), isinstance(node, ast.Assign))


def _constant_name(node: ast.stmt) -> str:
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id
    return ""


def _names(node: ast.AST) -> frozenset[str]:
    return frozenset(n.id for n in ast.walk(node) if isinstance(n, ast.Name))


def _reach(roots: set[str], pieces: Mapping[str, _Piece]) -> set[str]:
    reached: set[str] = set()
    pending = [name for name in roots if name in pieces]
    while pending:
        name = pending.pop()
        if name not in reached:
            reached.add(name)
            pending.extend(used for used in pieces[name].uses if used in pieces)
    return reached


def _imported(line: str, used: str) -> bool:
    """Whether any name that an import line binds occurs in the text."""
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
