"""A token store: documents as one long array of ids, in memory or mapped from a file.

Each document is its ids followed by </s>; nothing stands between documents.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from glam.data.document import Document
from glam.data.tokenizer import END, PAD, Tokenizer
from ir.errors import BadArgument

Ids: TypeAlias = NDArray[np.unsignedinteger[Any]]


@dataclass(frozen=True)
class TokenStore:
    """Ids of documents, [tokens], uint16 or uint32, each document ending with </s>.

    `digest` identifies the ids and `tokenizer` the tokenizer that made them. `part` is
    "all", or the side of a split that the documents are from.
    """

    name: str
    ids: Ids
    documents: int
    vocabulary: int
    tokenizer: str
    digest: str
    part: str = "all"

    @property
    def tokens(self) -> int:
        return len(self.ids)


def pack(name: str, documents: Iterable[Document], tokenizer: Tokenizer) -> TokenStore:
    """Tokenize documents into memory; raises BadArgument where none has any text."""
    parts = [document_ids(document, tokenizer) for document in documents]
    parts = [ids for ids in parts if len(ids) > 1]
    if not parts:
        raise BadArgument(reason=f"the source {name} has no text to train on")
    ids = np.concatenate(parts)
    digest = hashlib.sha256(ids.astype(ids.dtype.newbyteorder("<")).data).hexdigest()
    return TokenStore(
        name, ids, len(parts), tokenizer.vocabulary, tokenizer.fingerprint, digest
    )


def document_ids(document: Document, tokenizer: Tokenizer) -> Ids:
    """The ids of one document and </s>; only </s> for one without text."""
    ids: Ids = np.array([*tokenizer.encode(document.text), END], id_type(tokenizer))
    if np.any(ids[:-1] <= END):
        what = "</s>" if END in ids[:-1] else f"padding ({PAD})"
        raise BadArgument(
            reason=f"the tokenizer encodes the text of {document.origin} with the id "
            f"of {what}, which belongs to packing; use a tokenizer of `glam data "
            "tokenizer`"
        )
    return ids


def id_type(tokenizer: Tokenizer) -> type[np.uint16] | type[np.uint32]:
    """The narrowest type of a store's ids."""
    return np.uint16 if tokenizer.vocabulary <= 2**16 else np.uint32
