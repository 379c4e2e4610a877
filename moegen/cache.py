"""The cache of emitted modules: content-addressed, private, safe under many writers.

A module's name is the SHA-256 of its texts. A file is written under another name and
then renamed, so a reader meets a whole file or none, and one that was altered is
written anew. What is run are the texts that were emitted, never a file read again.
"""

import hashlib
import json
import os
import tempfile
from pathlib import Path

from backends.emitted import Emitted
from ir.errors import CacheUnusable


def default_folder() -> Path:
    """`$XDG_CACHE_HOME/moegen`, or `~/.cache/moegen`."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(
        os.path.expanduser("~"), ".cache"
    )
    return Path(base) / "moegen"


def store(emitted: Emitted, name: str, folder: Path | None = None) -> Path:
    """Put a module into the cache, and return where the layer's own text lies.

    Raises `CacheUnusable` if the folder cannot be written.
    """
    where = folder or default_folder()
    path = where
    try:
        where.mkdir(parents=True, exist_ok=True, mode=0o700)
        for file, text in emitted.files(f"{name}-{digest(emitted)}").items():
            path = where / file
            path.parent.mkdir(exist_ok=True, mode=0o700)
            if not _holds(path, text.encode()):
                _write(path, text.encode())
    except OSError as error:
        reason = error.strerror or str(error)
        raise CacheUnusable(path=where, reason=reason, flag="--cache") from None
    return path


def digest(emitted: Emitted) -> str:
    """The SHA-256 of all its texts, in hexadecimal; of one text, that text's own."""
    text = emitted.text
    if emitted.beside:
        text = json.dumps(emitted.files(""), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _holds(path: Path, data: bytes) -> bool:
    try:
        return path.read_bytes() == data
    except OSError:
        return False


def _write(path: Path, data: bytes) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
