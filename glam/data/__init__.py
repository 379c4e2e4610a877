"""Data for training: sources, quality, packing and batches (Du et al. 2021, 3)."""

from glam.data.batches import Batches, batches, one_pass
from glam.data.document import Document
from glam.data.sources import documents
from glam.data.store import TokenStore, pack
from glam.data.tokenizer import (
    ByteTokenizer,
    SentencePieceTokenizer,
    Tokenizer,
    check_vocabulary,
    load_tokenizer,
)

__all__ = [
    "Batches",
    "ByteTokenizer",
    "Document",
    "SentencePieceTokenizer",
    "TokenStore",
    "Tokenizer",
    "batches",
    "check_vocabulary",
    "documents",
    "load_tokenizer",
    "one_pass",
    "pack",
]
