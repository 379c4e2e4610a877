"""Where in the user's own files something happened."""

import ast
import sys
import sysconfig
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

from ir.errors import Where

_OURS = Path(__file__).resolve().parent
_ROOT = _OURS.parent
_HIDDEN = (
    *(str(_ROOT / room) for room in ("moegen", "ir", "backends")),
    sysconfig.get_paths()["purelib"],
    sysconfig.get_paths()["platlib"],
    sysconfig.get_paths()["stdlib"],
    "<frozen",
)


def is_users(file: str) -> bool:
    """Whether a file is the user's, and not ours, a library's or Python's."""
    return not file.startswith(_HIDDEN)


def user_place() -> Where | None:
    """The innermost line of the user's own code on the current stack."""
    frame = sys._getframe(1)
    while frame is not None:
        if is_users(frame.f_code.co_filename):
            return Where(frame.f_code.co_filename, frame.f_lineno)
        frame = frame.f_back  # type: ignore[assignment]
    return None


def place_of_frames(frames: Iterable[Any]) -> Where | None:
    """The innermost user line of a recorded JAX traceback."""
    for frame in frames:
        if is_users(frame.file_name):
            return Where(frame.file_name, frame.line_num)
    return None


def place_of_error(traceback: TracebackType | None) -> Where | None:
    """The innermost user line of an exception's traceback."""
    place = None
    while traceback is not None:
        file = traceback.tb_frame.f_code.co_filename
        if is_users(file):
            place = Where(file, traceback.tb_lineno)
        traceback = traceback.tb_next
    return place


@cache
def _assigned_names(file: str) -> dict[int, str]:
    try:
        tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return {}
    names: dict[int, str] = {}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Assign) or not isinstance(
            node.targets[0], ast.Name
        ):
            continue
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1):
            names[line] = node.targets[0].id
    return names


def assigned_name(where: Where | None) -> str:
    """The variable that the user's statement at `where` assigns, or ''."""
    return _assigned_names(where.file).get(where.line, "") if where else ""
