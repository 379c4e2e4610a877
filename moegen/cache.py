"""The cache of emitted modules: content-addressed, private, safe under many writers.

A file's name is the SHA-256 of its bytes. A file is written under another name and then
renamed, so a reader meets a whole file or none; and its hash is checked before it is
run, so a file that was altered is never run: it is written anew.
"""

import hashlib
import os
import tempfile
from pathlib import Path
from types import ModuleType

from ir.errors import CacheUnusable


def default_folder() -> Path:
    """`$XDG_CACHE_HOME/moegen`, or `~/.cache/moegen`."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(
        os.path.expanduser("~"), ".cache"
    )
    return Path(base) / "moegen"


def store(source: str, name: str, folder: Path | None = None) -> Path:
    """Put a module into the cache, and return where it lies.

    Raises `CacheUnusable` if the folder cannot be written.
    """
    data = source.encode()
    digest = hashlib.sha256(data).hexdigest()
    where = folder or default_folder()
    path = where / f"{name}-{digest}.py"
    try:
        where.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not _holds(path, digest):
            _write(path, data)
    except OSError as error:
        reason = error.strerror or str(error)
        raise CacheUnusable(path=where, reason=reason, flag="--cache") from None
    return path


def load(path: Path) -> ModuleType:
    """Run a cached module, after checking that its bytes match its name.

    What is run are the bytes that were checked, never the file read a second time.
    """
    digest = path.stem.rpartition("-")[2]
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != digest:
        raise CacheUnusable(
            path=path, reason="its content does not match its name", flag="--cache"
        )
    module = ModuleType(path.stem.rpartition("-")[0])
    module.__file__ = str(path)
    exec(compile(data, str(path), "exec"), module.__dict__)
    return module


def _holds(path: Path, digest: str) -> bool:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == digest
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
