"""Sources by name or path: the standard library, a file, or a folder of files."""

from collections.abc import Callable, Iterator
from pathlib import Path

from glam.data import stdlib
from glam.data.document import Document
from glam.data.packed import is_packed
from glam.data.readers import LINES, SPLITS, TABLES, TEXTS, Reading, read_file
from ir.errors import BadArgument, nearest

NAMED: dict[str, Callable[[], Iterator[Document]]] = {
    "stdlib": stdlib.code,
    "stdlib-docs": stdlib.prose,
}
_KINDS = (*TEXTS, *LINES, *TABLES)
_GZIPPED = tuple(f"{kind}.gz" for kind in (*TEXTS, *LINES))


def documents(name: str, reading: Reading | None = None) -> Iterator[Document]:
    """The documents of a source, read as they are asked for, always in one order.

    A source is `stdlib`, `stdlib-docs`, a file, or a folder, whose files of known kinds
    are read in the order of their paths. Raises BadArgument where the source is
    missing, is not what it says, or has no text at all.
    """
    reading = reading or Reading()
    if reading.split not in SPLITS:
        raise BadArgument(
            reason=f"there is no split '{reading.split}'; use {', '.join(SPLITS)}"
        )
    if name in NAMED:
        return NAMED[name]()
    return _not_empty(name, files(name), reading)


def files(name: str) -> list[Path]:
    """The files of a source on disk, in the order in which they are read."""
    path = Path(name)
    if not path.exists():
        known = ", ".join(NAMED)
        raise BadArgument(
            reason=f"the source {name} does not exist; name a file, a folder or one of "
            f"{known}{nearest(name, list(NAMED))}"
        )
    if path.suffix == ".json":
        raise BadArgument(
            reason=f"{name} is one JSON document, not a source; write one object a "
            "line into a .jsonl file"
        )
    if not path.is_dir():
        return [path]
    if is_packed(path):
        raise BadArgument(
            reason=f"{name} is a packed store, which holds ids and no text; name the "
            "source that it was packed from"
        )
    return _files_of_folder(path)


def _files_of_folder(folder: Path) -> list[Path]:
    inside = [path.relative_to(folder) for path in folder.rglob("*")]
    visible = [p for p in inside if not any(part[0] == "." for part in p.parts)]
    known = [p for p in visible if p.name.lower().endswith((*_KINDS, *_GZIPPED))]
    chosen = sorted(known, key=lambda p: p.as_posix())
    if not chosen:
        raise BadArgument(
            reason=f"the folder {folder} holds no file of a known kind; these are "
            f"{', '.join(_KINDS)}, and .gz of all but .parquet"
        )
    return [folder / path for path in chosen]


def _not_empty(name: str, paths: list[Path], reading: Reading) -> Iterator[Document]:
    found = False
    for path in paths:
        for document in read_file(path, reading):
            found = found or document.text.strip() != ""
            yield document
    if not found:
        read = "1 file" if len(paths) == 1 else f"{len(paths)} files"
        raise BadArgument(reason=f"the source {name} is empty: {read} read, no text")
