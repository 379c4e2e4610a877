"""Files that appear whole or not at all."""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ir.errors import BadArgument

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextlib.contextmanager
def atomic_file(path: Path, overwrite: bool = False) -> Iterator[BinaryIO]:
    """A file under a temporary name beside `path`, renamed once all is on disk.

    If the block raises (an interrupt too), the temporary file is removed and what was
    at `path` stays. Raises BadArgument where the file exists and may not be
    overwritten, where it cannot be written, and where the disk is full.
    """
    path = path.resolve()
    if path.exists() and not path.is_file():
        raise BadArgument(reason=f"{path} is not a file: name another output")
    with _beside(path, overwrite) as temporary, temporary.open("xb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def atomic_folder(path: Path, marker: str, overwrite: bool = False) -> Iterator[Path]:
    """The same for a folder: write into the one given, and it becomes `path`.

    Only a folder that holds the file `marker` is ever replaced.
    """
    path = path.resolve()
    if overwrite and path.exists() and not (path / marker).is_file():
        raise BadArgument(
            reason=f"{path} holds no {marker}, so it is left as it is: name another "
            "output"
        )
    with _beside(path, overwrite) as temporary:
        temporary.mkdir()
        yield temporary
        for file in temporary.iterdir():
            with file.open("rb") as written:
                os.fsync(written.fileno())


def check_free(path: Path, overwrite: bool) -> None:
    """Refuse a path where something stands already, unless it may be overwritten."""
    if path.exists() and not overwrite:
        raise BadArgument(
            reason=f"{path} exists already; name another output, or pass --overwrite"
        )


@contextlib.contextmanager
def _beside(path: Path, overwrite: bool) -> Iterator[Path]:
    check_free(path, overwrite)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    _make_parents(path)
    try:
        yield temporary
        _take_place(temporary, path)
    except OSError as error:
        # What the block did to other files is another story.
        if error.filename not in (None, str(temporary)) and error.errno not in _FULL:
            raise
        raise BadArgument(reason=_sentence(path, error)) from None
    finally:
        _remove(temporary)


def _make_parents(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadArgument(reason=_sentence(path, error)) from None


def _take_place(temporary: Path, path: Path) -> None:
    """Rename; a folder that stands there is set aside first."""
    if not path.is_dir():
        temporary.replace(path)
        return
    aside = path.with_name(f".{path.name}.{os.getpid()}.old")
    path.rename(aside)
    temporary.replace(path)
    _remove(aside)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _sentence(path: Path, error: OSError) -> str:
    why = error.strerror or str(error)
    if error.errno not in _FULL:
        return f"{path} cannot be written: {why}"
    free = shutil.disk_usage(path.parent).free
    return (
        f"{path} does not fit: {why} ({free / 2**20:,.0f} MiB free there); nothing was "
        "left behind: make room, or name an output on another disk"
    )
