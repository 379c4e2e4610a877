"""Contamination: evaluation examples of which training data holds a run of words.

GPT-3's rule, which GLaM follows: n is the 5th percentile of the examples' lengths in
words, between 8 and 13; an example is contaminated if any of its n-grams occurs in the
training data. Words are lower-cased and stripped of punctuation.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from glam.data.document import Document
from glam.data.words import ngram_hashes, words
from ir.errors import BadArgument

LEAST, MOST = 8, 13


@dataclass(frozen=True)
class Overlap:
    """A contaminated example and the first training document that holds part of it."""

    example: str
    training: str


@dataclass
class EvaluationSet:
    """The n-grams of one set of examples, and those that training data was seen with.

    `hashes` holds, for each example, uint64 [n-grams]; an example of fewer than n words
    has none, and can neither be found nor cleared: `too_short` counts them.
    """

    name: str
    n: int
    origins: list[str]
    hashes: list[NDArray[np.uint64]]
    seen: dict[int, str] = field(default_factory=dict)

    @property
    def too_short(self) -> int:
        return sum(not len(hashes) for hashes in self.hashes)

    def overlaps(self) -> list[Overlap]:
        """The contaminated examples, in their order."""
        found = []
        for origin, hashes in zip(self.origins, self.hashes, strict=True):
            where = next((self.seen[h] for h in hashes.tolist() if h in self.seen), "")
            if where:
                found.append(Overlap(origin, where))
        return found


def evaluation_set(name: str, examples: Iterable[Document]) -> EvaluationSet:
    """Choose n and hash the examples' n-grams; BadArgument where there is no text."""
    texts = [(document.origin, words(document.text)) for document in examples]
    texts = [(origin, tokens) for origin, tokens in texts if tokens]
    if not texts:
        raise BadArgument(reason=f"the evaluation set {name} has no example with words")
    n = ngram_length([len(tokens) for _, tokens in texts])
    hashes = [np.unique(ngram_hashes(tokens, n)) for _, tokens in texts]
    return EvaluationSet(name, n, [origin for origin, _ in texts], hashes)


def ngram_length(lengths: list[int]) -> int:
    """The 5th percentile of lengths in words, between 8 and 13."""
    return int(np.clip(np.percentile(lengths, 5, method="lower"), LEAST, MOST))


def look_for(sets: list[EvaluationSet], training: Iterable[Document]) -> int:
    """Look for the sets' n-grams in training data; returns the documents read.

    What is found is noted in each set's `seen`. Training data is read once, as it
    comes; memory is needed for the evaluation sets alone.
    """
    wanted = {
        n: np.unique(np.concatenate([h for s in sets if s.n == n for h in s.hashes]))
        for n in {s.n for s in sets}
    }
    read = 0
    for read, document in enumerate(training, 1):  # noqa: B007
        tokens = words(document.text)
        for n, hashes in wanted.items():
            _note(
                [s for s in sets if s.n == n],
                np.intersect1d(ngram_hashes(tokens, n), hashes),
                document.origin,
            )
    return read


def _note(sets: list[EvaluationSet], found: NDArray[np.uint64], origin: str) -> None:
    for one in sets:
        for value in found.tolist():
            one.seen.setdefault(value, origin)
