"""The two parts of a source: what is trained on, and what is held out."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain, islice

from glam.data.document import Document, held_out
from ir.errors import BadArgument

PARTS = ("all", "train", "validation")
_FEW = {
    "train": "all {documents} documents of {name} are held out: hold out less than "
    "{fraction:g} of them (data.fraction), or train on all (data.part = 'all')",
    "validation": "none of the {documents} documents of {name} is held out: hold out "
    "more than {fraction:g} of them (data.fraction), or others (data.held_out)",
}


def part_of(
    texts: Iterable[Document], part: str, fraction: float, name: str = "the source"
) -> Iterator[Document]:
    """All documents, or those on one side of the split by a hash of the text.

    A single document is cut instead: its end, `fraction` of it and back to the start
    of a line, is held out. Raises BadArgument, at the end of an empty part too.
    """
    if part not in PARTS:
        raise BadArgument(reason=f"there is no part '{part}'; use {', '.join(PARTS)}")
    if not 0 < fraction < 1:
        raise BadArgument(
            reason=f"a held-out fraction of {fraction:g} must lie between 0 and 1"
        )
    if part == "all":
        return iter(texts)
    return _one_side(iter(texts), part, fraction, name)


def _one_side(
    texts: Iterator[Document], part: str, fraction: float, name: str
) -> Iterator[Document]:
    first = list(islice(texts, 2))
    if len(first) == 1:
        yield _cut(first[0], part, fraction)
        return
    documents = found = 0
    for document in chain(first, texts):
        documents += 1
        if held_out(document.text, fraction) == (part == "validation"):
            found += 1
            yield document
    if documents and not found:
        facts = {"documents": documents, "name": name, "fraction": fraction}
        raise BadArgument(reason=_FEW[part].format(**facts))


def _cut(document: Document, part: str, fraction: float) -> Document:
    """The beginning or the held-out end of a document."""
    text = document.text
    share = max(1, round(len(text) * fraction))
    place = max(0, len(text) - share)
    # At most twice the fraction, where a line is longer than that.
    line = text.rfind("\n", max(0, place - share), place) + 1
    place = line or place
    return replace(
        document, text=text[place:] if part == "validation" else text[:place]
    )
