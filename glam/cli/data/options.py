"""What the steps of `glam data` share: options, reading sources, progress."""

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from glam.data.document import Document
from glam.data.readers import SPLITS, Reading
from glam.data.sources import NAMED, documents, files
from ir.errors import BadArgument

SOURCE = "a text, JSONL or Parquet file, a folder of them, stdlib or stdlib-docs"


def sources_argument(parser: argparse.ArgumentParser) -> None:
    """The positional argument SOURCE, once or more often, and how to read them."""
    parser.add_argument("sources", metavar="SOURCE", nargs="+", help=SOURCE)
    reading_options(parser)


def reading_options(parser: argparse.ArgumentParser) -> None:
    """How the files of sources are read."""
    parser.add_argument(
        "--field",
        default="text",
        help="the field of JSONL and Parquet rows that holds the text (default: text)",
    )
    parser.add_argument(
        "--split",
        choices=SPLITS,
        default="file",
        help="what one document of a text file is (default: the file)",
    )
    parser.add_argument(
        "--encoding", default="utf-8", help="of text and JSONL files (default: utf-8)"
    )


def output_options(parser: argparse.ArgumentParser, required: bool, what: str) -> None:
    """Where the result goes, and whether something may stand there already."""
    parser.add_argument("--out", type=Path, required=required, help=what)
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the output if it exists"
    )


def json_option(parser: argparse.ArgumentParser) -> None:
    """Figures as JSON."""
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def picture_option(parser: argparse.ArgumentParser) -> None:
    """The histogram of scores."""
    parser.add_argument(
        "--picture", type=Path, help="draw the histogram of scores, .png or .svg"
    )


def opened(
    names: Sequence[str], arguments: argparse.Namespace, out: Path | None = None
) -> dict[str, Iterator[Document]]:
    """The documents of each source; all are looked up before any is read.

    Raises BadArgument where one is missing, or is the file to be written.
    """
    reading = Reading(arguments.field, arguments.split, arguments.encoding)
    for name in names:
        if out is not None and name not in NAMED and out.exists():
            _refuse_own_input(out, files(name))
    found = {name: documents(name, reading) for name in names}
    return {name: watched(name, texts) for name, texts in found.items()}


def chained(found: dict[str, Iterator[Document]]) -> Iterator[Document]:
    """The documents of all sources, in order."""
    for texts in found.values():
        yield from texts


def watched(name: str, texts: Iterable[Document]) -> Iterator[Document]:
    """The same documents, counted on a terminal's standard error as they pass."""
    if not sys.stderr.isatty():
        yield from texts
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(name)
        for number, document in enumerate(texts, 1):
            progress.update(task, description=f"{name}: {number:,} documents")
            yield document


def table(rows: Sequence[Sequence[Any]], headers: Sequence[str]) -> str:
    """Rows as text: the first column to the left, figures to the right."""
    from tabulate import tabulate

    align = ["left", *["right"] * (len(headers) - 1)]
    return tabulate(rows, headers, disable_numparse=True, colalign=align)


def _refuse_own_input(out: Path, inputs: list[Path]) -> None:
    if any(path.samefile(out) for path in inputs):
        raise BadArgument(
            reason=f"{out} is among the sources: writing there would lose what it "
            "holds; name another output"
        )
