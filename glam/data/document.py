"""One document: a text and where it came from."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Document:
    """A text, the place that it was read from, and the record that held it.

    `record` keeps the other fields of a JSONL or Parquet row, so that a filtered
    source loses none of them.
    """

    text: str
    origin: str
    record: Mapping[str, Any] | None = None


def unit_hash(text: str, purpose: str) -> float:
    """A number in (0, 1) that depends on the text and the purpose alone.

    Every random choice about a document is made with it, so a choice does not depend
    on the order, the number or the company of documents.
    """
    digest = hashlib.blake2b(
        text.encode("utf-8", "replace"), digest_size=8, key=purpose.encode()[:64]
    ).digest()
    return (int.from_bytes(digest, "little") >> 11 | 1) / 2**53


def held_out(text: str, fraction: float) -> bool:
    """Whether a text belongs to the held-out part, `fraction` of all texts.

    Equal texts fall on the same side, so a copy of a training document is never
    held out.
    """
    return unit_hash(text, "held out") < fraction
