"""Training of SentencePiece models from the texts of a source."""

import io
import re
from collections.abc import Iterable, Iterator

from glam.data.document import Document
from glam.data.tokenizer import END, PAD, UNKNOWN, SentencePieceTokenizer
from ir.errors import BadArgument

KINDS = ("unigram", "bpe")
# A fixed number, so that a model does not depend on the machine's cores.
_THREADS = 4
# SentencePiece leaves out sentences of more than 4,192 bytes without a word.
_LONGEST = 1000
_LEAST = 256 + 3 + 1


def train_tokenizer(
    documents: Iterable[Document],
    vocabulary: int,
    *,
    kind: str = "unigram",
    characters: int = 10_000_000,
) -> SentencePieceTokenizer:
    """A SentencePiece model of `vocabulary` pieces from the first `characters`.

    Text comes back from its ids as it was: nothing is normalised, a line break is a
    piece, and what no piece covers is spelled in bytes. The one exception is U+2581,
    which SentencePiece writes for a space and gives back as one. The same texts give
    the same model. Raises BadArgument where they cannot fill the vocabulary.
    """
    from sentencepiece import SentencePieceTrainer

    if kind not in KINDS:
        raise BadArgument(reason=f"there is no kind '{kind}'; use {' or '.join(KINDS)}")
    if vocabulary < _LEAST:
        raise BadArgument(
            reason=f"a vocabulary of {vocabulary} cannot hold the 256 bytes and 4 "
            f"special pieces: use at least {_LEAST} and some hundreds for the text"
        )
    model = io.BytesIO()
    failures: list[Exception] = []
    try:
        SentencePieceTrainer.train(
            sentence_iterator=_kept(_pieces(documents, characters), failures),
            model_writer=model,
            vocab_size=vocabulary,
            model_type=kind,
            pad_id=PAD,
            eos_id=END,
            unk_id=UNKNOWN,
            bos_id=-1,
            byte_fallback=True,
            split_digits=True,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            add_dummy_prefix=False,
            allow_whitespace_only_pieces=True,
            user_defined_symbols=["\n"],
            num_threads=_THREADS,
            minloglevel=2,
        )
    except RuntimeError as error:
        if failures:
            raise failures[0] from None
        raise BadArgument(reason=_sentence(vocabulary, str(error))) from None
    return SentencePieceTokenizer(model.getvalue())


def _pieces(documents: Iterable[Document], characters: int) -> Iterator[str]:
    """Lines with their line breaks, the long ones cut, up to a number of characters."""
    left = characters
    for document in documents:
        for line in document.text.splitlines(keepends=True):
            for start in range(0, len(line), _LONGEST):
                piece = line[start : start + _LONGEST]
                left -= len(piece)
                if left < 0:
                    return
                yield piece


def _kept(pieces: Iterator[str], failures: list[Exception]) -> Iterator[str]:
    """The same pieces; what stops them is kept, for SentencePiece makes text of it."""
    try:
        yield from pieces
    except Exception as error:
        failures.append(error)
        raise


def _sentence(vocabulary: int, why: str) -> str:
    if "!sentences_.empty()" in why:
        return "the sources have no text to train a tokenizer on"
    if most := re.search(r"too high.*<= (\d+)", why):
        return (
            f"the texts give at most {int(most[1]):,} pieces, and a vocabulary of "
            f"{vocabulary:,} was asked for; ask for fewer, or give more text"
        )
    if least := re.search(r"smaller than required_chars\. (\d+) vs (\d+)", why):
        return (
            f"a vocabulary of {vocabulary:,} cannot hold the {int(least[2]):,} bytes "
            "and characters of the texts; ask for some hundreds more"
        )
    return f"SentencePiece could not be trained: {' '.join(why.split())}"
