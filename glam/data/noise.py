"""Noise for experiments: raw data of which a known share is worthless.

The paper's claim that filtered data beats more unfiltered data needs a corpus whose
good half is known. Here the bad half is made from the good one, by a seed.
"""

import random
import string
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from glam.data.document import Document, held_out, unit_hash
from ir.errors import BadArgument

_LETTERS = string.ascii_letters + string.digits + string.punctuation + " \n"


def _shuffled_words(text: str, draw: random.Random) -> str:
    """The text's own words in no order: its vocabulary, and no sentence."""
    words = text.split()
    draw.shuffle(words)
    return " ".join(words)


def _random_characters(text: str, draw: random.Random) -> str:
    """Printable characters, all equally likely, as in a broken extraction."""
    return "".join(draw.choices(_LETTERS, k=len(text)))


def _repetition(text: str, draw: random.Random) -> str:
    """One line of the text again and again, as in spam."""
    lines = [line for line in text.splitlines() if line.strip()] or [text]
    line = draw.choice(lines)
    return "\n".join([line] * (1 + len(text) // (len(line) + 1)))[: len(text)]


NOISE: dict[str, Callable[[str, random.Random], str]] = {
    "shuffled-words": _shuffled_words,
    "random-characters": _random_characters,
    "repetition": _repetition,
}


def noise_from(document: Document, seed: int = 0, number: int = 0) -> Document:
    """A worthless document about as long as the given one, of a kind drawn by seed."""
    draw = random.Random(unit_hash(document.text, f"noise {seed} {number}"))
    kind = draw.choice(list(NOISE))
    text = NOISE[kind](document.text, draw)
    return Document(text, f"noise/{kind}/{document.origin}")


def is_noise(document: Document) -> bool:
    """Whether `noise_from` made a document."""
    return document.origin.startswith("noise/")


def with_noise(
    documents: Iterable[Document], fraction: float = 0.5, seed: int = 0
) -> Iterator[Document]:
    """The documents, with noise between them: `fraction` of all characters.

    Raises BadArgument where the fraction is not at least 0 and below 1.
    """
    if not 0 <= fraction < 1:
        raise BadArgument(
            reason=f"a noise fraction of {fraction:g} must be at least 0 and below 1"
        )
    owed = 0.0
    for document in documents:
        yield document
        owed += len(document.text) * fraction / (1 - fraction)
        number = 0
        while document.text and owed >= len(document.text) / 2:
            made = noise_from(document, seed, number)
            yield made
            owed -= max(len(made.text), 1)
            number += 1


def chunks(documents: Iterable[Document], characters: int = 2000) -> Iterator[Document]:
    """Documents cut at line ends into pieces of about so many characters."""
    for document in documents:
        held, size, first = list[str](), 0, 1
        for number, line in enumerate(document.text.splitlines(keepends=True), 1):
            held.append(line)
            size += len(line)
            if size >= characters:
                yield Document("".join(held), f"{document.origin}:{first}")
                held, size, first = [], 0, number + 1
        if held:
            yield Document("".join(held), f"{document.origin}:{first}")


@dataclass(frozen=True)
class NoisyCorpus:
    """Raw data with known noise, and what is needed to filter it and to judge that.

    `positives` and `negatives` are labelled examples for the classifier; no text of
    theirs is in `raw`. `validation` is clean text from other documents than the rest:
    those that `batches` holds out of the same documents at the same fraction.
    """

    raw: list[Document]
    positives: list[Document]
    negatives: list[Document]
    validation: list[Document]


def noisy_corpus(
    documents: Iterable[Document],
    *,
    fraction: float = 0.5,
    labelled: float = 0.1,
    validation: float = 0.05,
    characters: int = 2000,
    seed: int = 0,
) -> NoisyCorpus:
    """Cut documents into chunks and set them apart by hash of the whole document.

    `fraction` of the raw characters is noise; `labelled` of the documents outside the
    validation part are the classifier's positives, and noise from them its negatives.
    """
    raw, positives, held = list[Document](), list[Document](), list[Document]()
    for document in documents:
        if held_out(document.text, validation):
            held.append(document)
        elif unit_hash(document.text, "labelled") < labelled:
            positives.append(document)
        else:
            raw.append(document)
    good = list(chunks(positives, characters))
    return NoisyCorpus(
        raw=list(with_noise(chunks(raw, characters), fraction, seed)),
        positives=good,
        negatives=[noise_from(chunk, seed) for chunk in good],
        validation=list(chunks(held, characters)),
    )
