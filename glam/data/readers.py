"""Readers of one file: text, JSONL and Parquet, the first two also gzipped.

Each yields documents as it reads, and raises BadArgument with the file, the line and
what to do where the bytes are not what the name says.
"""

import codecs
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

from glam.data.document import Document
from ir.errors import BadArgument

LINES = (".jsonl", ".ndjson")
TABLES = (".parquet",)
TEXTS = (".txt", ".text", ".md", ".rst")
SPLITS = ("file", "paragraph", "line")


@dataclass(frozen=True)
class Reading:
    """How files are read: the field with the text, where texts end, the encoding.

    `split` is for text files: a document is a whole file, a paragraph (lines between
    blank ones) or a line.
    """

    field: str = "text"
    split: str = "file"
    encoding: str = "utf-8"


def read_file(path: Path, reading: Reading) -> Iterator[Document]:
    """The documents of a file, in order; its name's ending says which kind it is."""
    kind = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if kind.lower() in TABLES:
        return _table(path, reading)
    return _lines(path, reading) if kind.lower() in LINES else _text(path, reading)


def _text(path: Path, reading: Reading) -> Iterator[Document]:
    with _open(path, reading.encoding) as file:
        if reading.split == "file":
            yield Document(file.read(), str(path))
            return
        first, held = 1, list[str]()
        for number, line in enumerate(file, 1):
            if line.strip() and (reading.split == "paragraph" or not held):
                held.append(line)
            if held and (reading.split == "line" or not line.strip()):
                yield Document("".join(held), f"{path}:{first}")
                held = []
            if not held:
                first = number + 1
        if held:
            yield Document("".join(held), f"{path}:{first}")


def _lines(path: Path, reading: Reading) -> Iterator[Document]:
    for place, record in json_lines(path, reading.encoding):
        yield _record(place, record, reading.field)


def json_lines(path: Path, encoding: str) -> Iterator[tuple[str, Any]]:
    """What each line of a JSONL file holds, with its place; blank lines are left out.

    Raises BadArgument where the file cannot be read, and for a line that is not JSON.
    """
    with _open(path, encoding) as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            place = f"{path}:{number}"
            try:
                record = json.loads(line)
            except ValueError as error:
                raise BadArgument(
                    reason=f"{place} is not JSON ({error}); a .jsonl file has one "
                    "object a line"
                ) from None
            yield place, record


def _table(path: Path, reading: Reading) -> Iterator[Document]:
    import pyarrow
    from pyarrow import parquet

    number = 0
    try:
        with parquet.ParquetFile(path) as table:
            for batch in table.iter_batches(batch_size=1024):
                for record in batch.to_pylist():
                    number += 1
                    yield _record(f"{path}:{number}", record, reading.field)
    except (pyarrow.ArrowException, OSError) as error:
        why = " ".join(str(error).split())
        raise BadArgument(
            reason=f"{path} cannot be read as Parquet after row {number}: {why}"
        ) from None


def _record(place: str, record: Any, field: str) -> Document:
    if not isinstance(record, dict):
        raise BadArgument(
            reason=f"{place} is {type(record).__name__}, and each row must be an "
            f"object with the field '{field}'"
        )
    if field not in record:
        raise BadArgument(
            reason=f"{place} has no field '{field}', only {', '.join(record) or 'none'}"
            "; name the field of the text with --field"
        )
    text = record[field] or ""
    if not isinstance(text, str):
        raise BadArgument(
            reason=f"the field '{field}' of {place} is {type(text).__name__}, not text;"
            " name another with --field"
        )
    # JSON may hold halves of surrogate pairs, which no encoding can write.
    text = text.encode("utf-8", "replace").decode()
    return Document(text, place, record)


@contextmanager
def _open(path: Path, encoding: str) -> Iterator[TextIO]:
    """The text of a file; what is wrong with its bytes becomes one sentence."""
    codec = "utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding
    try:
        with _bytes(path) as data:
            yield io.TextIOWrapper(data, encoding=codec)
    except UnicodeDecodeError as error:
        raise BadArgument(
            reason=f"{path} is not {encoding} text: {_place_of_error(path, codec)} "
            f"({error.reason}); name its encoding with --encoding, or convert it"
        ) from None
    except LookupError:
        raise BadArgument(
            reason=f"there is no encoding '{encoding}'; use utf-8, latin-1 or another "
            "that Python knows"
        ) from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise BadArgument(
            reason=f"{path} is not a whole gzip file: {error}; fetch it again"
        ) from None
    except OSError as error:
        raise BadArgument(reason=f"{path} cannot be read: {error.strerror}") from None


def _bytes(path: Path) -> BinaryIO:
    if path.suffix == ".gz":
        return cast(BinaryIO, gzip.open(path, "rb"))
    return path.open("rb")


def _place_of_error(path: Path, codec: str) -> str:
    """Where the first byte stands that the codec refuses; reads the file again."""
    decoder = codecs.getincrementaldecoder(codec)()
    seen, lines = 0, 1
    with _bytes(path) as data:
        while chunk := data.read(2**20):
            try:
                decoder.decode(chunk)
            except UnicodeDecodeError as error:
                before = len(error.object) - len(chunk)
                lines += chunk.count(b"\n", 0, max(error.start - before, 0))
                at, byte = seen - before + error.start, error.object[error.start]
                return f"byte 0x{byte:02x} at offset {at:,}, line {lines:,}"
            seen += len(chunk)
            lines += chunk.count(b"\n")
    return f"it ends within a character, at offset {seen:,}, line {lines:,}"
