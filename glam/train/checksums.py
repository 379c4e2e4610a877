"""A folder with the SHA-256 of each of its files, so that damage is found by name."""

import hashlib
import json
import os
from pathlib import Path

NAME = "checksums.json"


class Damaged(Exception):
    """What is wrong with a folder, with the name of the file."""


def seal(folder: Path) -> None:
    """Write the sums of all files in `folder`, and have everything on the disk."""
    sums = {name: _digest(folder / name, sync=True) for name in _files(folder)}
    path = folder / NAME
    with path.open("w", encoding="utf-8") as file:
        json.dump({"sha256": sums, "of_all": _of_all(sums)}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    for inside in [folder, *(p for p in folder.rglob("*") if p.is_dir())]:
        sync_folder(inside)


def verify(folder: Path) -> None:
    """Raise `Damaged` unless `folder` holds just what was sealed, byte for byte."""
    sums = _told(folder / NAME)
    found = set(_files(folder))
    for name in sorted(sums.keys() - found):
        raise Damaged(f"its file {name} is missing")
    for name in sorted(found - sums.keys()):
        raise Damaged(f"its file {name} was added")
    for name, told in sums.items():
        if _digest(folder / name) != told:
            raise Damaged(f"its file {name} is not what was written (SHA-256 differs)")


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _told(path: Path) -> dict[str, str]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        sums, of_all = dict(document["sha256"]), document["of_all"]
    except FileNotFoundError:
        raise Damaged(f"its file {NAME} is missing") from None
    except (ValueError, KeyError, TypeError):
        raise Damaged(f"its file {NAME} cannot be read") from None
    if _of_all(sums) != of_all:
        raise Damaged(f"its file {NAME} was altered")
    return sums


def _files(folder: Path) -> list[str]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    names = [path.relative_to(folder).as_posix() for path in paths]
    return sorted(name for name in names if name != NAME)


def _digest(path: Path, sync: bool = False) -> str:
    with path.open("rb") as file:
        if sync:
            os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


def _of_all(sums: dict[str, str]) -> str:
    listed = json.dumps(sorted(sums.items()))
    return hashlib.sha256(listed.encode()).hexdigest()
