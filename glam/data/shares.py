"""What a name stands for: stores of tokens with their weights, ready to be read."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from glam.data.document import Document
from glam.data.mixture import read_mixture
from glam.data.packed import is_packed, open_packed
from glam.data.parts import part_of
from glam.data.sources import documents
from glam.data.store import TokenStore, pack
from glam.data.tokenizer import Tokenizer
from ir.errors import BadArgument


@dataclass(frozen=True)
class Share:
    """A source as training reads it: its store, and its weight among others."""

    name: str
    weight: float
    store: TokenStore


Source: TypeAlias = str | Path | TokenStore | Sequence[Share] | Iterable[Document]


def shares_of(
    source: Source, tokenizer: Tokenizer, part: str = "all", fraction: float = 0.05
) -> list[Share]:
    """The stores of a source and their weights; documents are tokenized here."""
    if isinstance(source, TokenStore):
        return [Share(source.name, 1.0, _checked(source, tokenizer, part))]
    if isinstance(source, str | Path):
        return _named(str(source), tokenizer, part, fraction)
    given = list(source)
    shares = [share for share in given if isinstance(share, Share)]
    if shares and len(shares) == len(given):
        return [
            Share(s.name, s.weight, _checked(s.store, tokenizer, part)) for s in shares
        ]
    texts = [document for document in given if isinstance(document, Document)]
    if len(texts) < len(given):
        raise BadArgument(
            reason="a source in Python is a name, a TokenStore, or documents or shares "
            "in a list; write several sources into a mixture with `glam data mix`"
        )
    kept = part_of(texts, part, fraction)
    return [Share("documents", 1.0, pack("documents", kept, tokenizer))]


def _named(name: str, tokenizer: Tokenizer, part: str, fraction: float) -> list[Share]:
    path = Path(name)
    if path.suffix == ".json":
        parts = read_mixture(path)
        stores = [_store(p.source, tokenizer, part, fraction) for p in parts]
        return [
            Share(p.name, p.weight, store)
            for p, store in zip(parts, stores, strict=True)
        ]
    return [Share(name, 1.0, _store(name, tokenizer, part, fraction))]


def _store(name: str, tokenizer: Tokenizer, part: str, fraction: float) -> TokenStore:
    path = Path(name)
    if is_packed(path):
        return _checked(open_packed(path), tokenizer, part)
    return pack(name, part_of(documents(name), part, fraction, name), tokenizer)


def _checked(store: TokenStore, tokenizer: Tokenizer, part: str) -> TokenStore:
    if part not in ("all", store.part):
        raise BadArgument(
            reason=f"{store.name} was packed as the part '{store.part}', and the part "
            f"'{part}' is wanted; pack that one: glam data pack --part {part}"
        )
    check_tokenizer(store, tokenizer)
    return store


def check_tokenizer(store: TokenStore, tokenizer: Tokenizer) -> None:
    """Refuse a tokenizer to which the ids of a store mean something else."""
    if store.tokenizer == tokenizer.fingerprint:
        return
    raise BadArgument(
        reason=f"{store.name} was packed with another tokenizer ({store.tokenizer}, "
        f"{store.vocabulary:,} ids) than the one given ({tokenizer.fingerprint}, "
        f"{tokenizer.vocabulary:,} ids); use that one, or pack again with this one"
    )
