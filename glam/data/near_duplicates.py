"""Near-duplicate removal: MinHash signatures of runs of words, and an LSH index.

Two texts are near-duplicates if the Jaccard similarity of their sets of five-word runs
is at least the threshold. The similarity is estimated from signatures of 128 values,
with a standard error of at most 0.045; texts equal as they stand are always found.
"""

import hashlib
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from glam.data.document import Document
from glam.data.words import ngram_hashes, words
from ir.errors import BadArgument

_RUN = 5
_SIGNATURE = 128
# An LSH index that misses few pairs and proposes too many; signatures then decide.
_WEIGHTS = (0.1, 0.9)


class Match(NamedTuple):
    """The earlier document that one repeats, and how similar they are (1.0: equal)."""

    origin: str
    similarity: float


class Deduplicator:
    """Compares each document with the new ones before it.

    The first of its kind is new, so the order decides which copy stays. Memory is
    needed for the signatures of new documents, about 7 kB each. Raises BadArgument for
    a threshold outside 0..1.
    """

    def __init__(self, threshold: float = 0.8) -> None:
        from datasketch import MinHashLSH

        if not 0 < threshold <= 1:
            raise BadArgument(
                reason=f"a similarity threshold of {threshold:g} must lie in 0..1; 0.8 "
                "is usual"
            )
        self._threshold = threshold
        self._index = MinHashLSH(
            threshold=threshold, num_perm=_SIGNATURE, weights=_WEIGHTS
        )
        self._exact: dict[bytes, str] = {}
        self._new: list[tuple[str, Any]] = []

    def match(self, document: Document) -> Match | None:
        """What an earlier document was; None for a new one, which is remembered."""
        text = document.text.encode("utf-8", "replace")
        digest = hashlib.blake2b(text, digest_size=16).digest()
        if digest in self._exact:
            return Match(self._exact[digest], 1.0)
        self._exact[digest] = document.origin
        runs = _runs(document.text)
        if not len(runs):
            return None
        signature = _signature(runs)
        found = self._nearest(signature)
        if found is None:
            self._index.insert(len(self._new), signature, check_duplication=False)
            self._new.append((document.origin, signature))
        return found

    def _nearest(self, signature: Any) -> Match | None:
        """The most similar document that the index proposes, the earliest of equals."""
        best: Match | None = None
        for number in sorted(self._index.query(signature)):
            origin, other = self._new[number]
            similarity = float(signature.jaccard(other))
            if similarity >= self._threshold and (
                best is None or similarity > best.similarity
            ):
                best = Match(origin, similarity)
        return best


def _runs(text: str) -> NDArray[np.uint64]:
    """Hashes of the distinct runs of words; a shorter text is one run."""
    tokens = words(text)
    return np.unique(ngram_hashes(tokens, max(min(_RUN, len(tokens)), 1)))


def _signature(runs: NDArray[np.uint64]) -> Any:
    from datasketch import MinHash

    signature = MinHash(num_perm=_SIGNATURE, hashfunc=int)
    # The library takes hashes of 32 bits, and these are hashes already.
    signature.update_batch((runs & np.uint64(0xFFFFFFFF)).tolist())
    return signature
