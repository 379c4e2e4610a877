"""JSONL output: documents with what was found out about them."""

import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from glam.data.document import Document
from glam.data.writing import atomic_file
from ir.errors import BadArgument

_ENDINGS = (".jsonl", ".jsonl.gz")


class RecordWriter:
    """Writes one document a line: its record, or its text and where it came from."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, document: Document, **found: Any) -> None:
        """Write a document and further fields."""
        own = document.record or {"text": document.text, "origin": document.origin}
        line = json.dumps({**own, **found}, ensure_ascii=False, default=str) + "\n"
        # A record may hold halves of surrogate pairs outside its text.
        self._file.write(line.encode("utf-8", "replace"))


@contextmanager
def record_file(path: Path, overwrite: bool = False) -> Iterator[RecordWriter]:
    """A JSONL file, gzipped if its name says so, that appears once it is whole."""
    if not path.name.endswith(_ENDINGS):
        raise BadArgument(
            reason=f"the output {path} must end with {' or '.join(_ENDINGS)}"
        )
    with atomic_file(path, overwrite) as file:
        if path.suffix != ".gz":
            yield RecordWriter(file)
            return
        with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
            yield RecordWriter(cast(BinaryIO, packed))
