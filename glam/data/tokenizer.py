"""Tokenizers: text to ids and back. Ids 0, 1, 2 are padding, </s> and <unk>.

No text encodes to `PAD` or `END`: those belong to packing. The vocabulary of the paper
is SentencePiece's (section 4 of Du et al. 2021); bytes need no training at all.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, Self

from ir.errors import BadArgument

PAD, END, UNKNOWN = 0, 1, 2
_SPECIAL = 3
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class Tokenizer(Protocol):
    """What packing, training and generation need of a tokenizer."""

    @property
    def vocabulary(self) -> int:
        """Number of ids; every id is below it."""

    @property
    def fingerprint(self) -> str:
        """Equal for tokenizers that give the same ids, and for no others."""

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without </s>."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; padding and </s> are left out."""


class ByteTokenizer:
    """UTF-8 bytes, byte b as id b + 3. Decoding what it encoded gives the text back."""

    vocabulary = 256 + _SPECIAL
    fingerprint = "bytes-259"

    def encode(self, text: str) -> list[int]:
        return [byte + _SPECIAL for byte in text.encode("utf-8", "replace")]

    def decode(self, ids: Sequence[int]) -> str:
        """Ids that are no byte, and bytes that are no UTF-8, become U+FFFD."""
        parts = (self._bytes(int(i)) for i in ids)
        return b"".join(parts).decode("utf-8", "replace")

    def _bytes(self, i: int) -> bytes:
        if i in (PAD, END):
            return b""
        if _SPECIAL <= i < self.vocabulary:
            return bytes((i - _SPECIAL,))
        return _REPLACEMENT.encode()


class SentencePieceTokenizer:
    """Subwords of a SentencePiece model, from the bytes of its `.model` file.

    Raises BadArgument where the bytes are no model, or its special ids are not ours.
    `glam.data.subwords.train` makes such models.
    """

    def __init__(self, model: bytes, name: str = "the model") -> None:
        from sentencepiece import SentencePieceProcessor

        self.model = model
        self._processor = SentencePieceProcessor()
        try:
            self._processor.LoadFromSerializedProto(model)
        except (RuntimeError, ValueError):
            raise BadArgument(
                reason=f"{name} is not a SentencePiece model ({len(model):,} bytes); "
                "make one with: glam data tokenizer SOURCE --out tokens.model"
            ) from None
        self._check_special_ids(name)
        self.vocabulary: int = self._processor.vocab_size()
        self.fingerprint = "sentencepiece-" + hashlib.sha256(model).hexdigest()[:16]

    @classmethod
    def load(cls, path: Path) -> Self:
        """The tokenizer of a `.model` file."""
        try:
            model = path.read_bytes()
        except OSError as error:
            raise BadArgument(
                reason=f"the tokenizer {path} cannot be read: {error.strerror}"
            ) from None
        return cls(model, f"the tokenizer {path}")

    def save(self, path: Path) -> None:
        """Write the `.model` file; an existing one is replaced in one step."""
        from glam.data.writing import atomic_file

        with atomic_file(path, overwrite=True) as file:
            file.write(self.model)

    def encode(self, text: str) -> list[int]:
        text = text.encode("utf-8", "replace").decode()
        ids: list[int] = self._processor.EncodeAsIds(text)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Ids beyond the vocabulary become U+FFFD."""
        text, known = "", list[int]()
        for i in map(int, ids):
            if i in (PAD, END):
                continue
            if UNKNOWN < i < self.vocabulary:
                known.append(i)
                continue
            text += self._processor.DecodeIds(known) + _REPLACEMENT
            known = []
        return text + str(self._processor.DecodeIds(known))

    def _check_special_ids(self, name: str) -> None:
        has = self._processor
        found = (has.pad_id(), has.eos_id(), has.unk_id())
        if found != (PAD, END, UNKNOWN):
            raise BadArgument(
                reason=f"{name} has the ids pad={found[0]}, </s>={found[1]}, "
                f"<unk>={found[2]}, and GLaM's are 0, 1 and 2; train it with "
                "`glam data tokenizer`, or with pad_id=0, eos_id=1 and unk_id=2"
            )


def load_tokenizer(name: str | Path) -> Tokenizer:
    """`bytes`, or the path of a SentencePiece `.model` file."""
    if str(name) == "bytes":
        return ByteTokenizer()
    path = Path(name)
    if not path.exists() and path.suffix != ".model":
        raise BadArgument(
            reason=f"there is no tokenizer '{name}'; name 'bytes', or the path of a "
            "SentencePiece .model file"
        )
    return SentencePieceTokenizer.load(path)


def check_vocabulary(tokenizer: Tokenizer, vocabulary: int) -> None:
    """Refuse a tokenizer whose ids the embedding of a model cannot hold."""
    if tokenizer.vocabulary > vocabulary:
        raise BadArgument(
            reason=f"the tokenizer has {tokenizer.vocabulary:,} ids and the model's "
            f"embedding {vocabulary:,}; give the model a vocabulary of at least "
            f"{tokenizer.vocabulary:,}, or use the tokenizer that it was trained with"
        )
