"""Reading and writing the user's files, with errors in one sentence."""

import os
import sys
from pathlib import Path

from ir.errors import UnreadableIR, UnwritableFolder


def write_text(folder: Path, name: str, text: str, flag: str) -> Path:
    """Write a file into a folder, made if missing; raises `UnwritableFolder`.

    A reader finds the old file or the new one, never half of it.
    """
    path = folder / name
    part = folder / f".{name}.{os.getpid()}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        _forget(part)
        reason = error.strerror or str(error)
        raise UnwritableFolder(path=folder, reason=reason, flag=flag) from None
    return path


def read_ir(file: str) -> str:
    """The text of a file of IR, or of standard input for `-`."""
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return data.decode()
    except OSError as error:
        raise UnreadableIR(place=file, reason=error.strerror or str(error)) from None
    except UnicodeDecodeError:
        raise UnreadableIR(place=file, reason="it is not UTF-8 text") from None


def _forget(part: Path) -> None:
    try:
        part.unlink(missing_ok=True)
    except OSError:
        return
