"""Words and n-grams as the overlap checks see them: lower-cased, no punctuation."""

import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_PUNCTUATION = re.compile(r"[^\w\s]|_")
# An odd multiplier with no short pattern of bits: 2^64 / golden ratio.
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


def words(text: str) -> list[str]:
    """A text's words, lower-cased and stripped of punctuation."""
    return _PUNCTUATION.sub("", text.lower()).split()


def ngram_hashes(tokens: Sequence[str], n: int) -> NDArray[np.uint64]:
    """The hash of each run of n words, uint64 [words - n + 1]; none if there are fewer.

    Equal n-grams have equal hashes on every machine; others differ but for one chance
    in 2^64 for each pair.
    """
    count = len(tokens) - n + 1
    if count < 1:
        return np.zeros(0, np.uint64)
    single = np.array([_word_hash(word) for word in tokens], np.uint64)
    total = np.zeros(count, np.uint64)
    for place in range(n):
        total = total * _MULTIPLIER + single[place : place + count]
    return total ^ (total >> np.uint64(32))


@lru_cache(maxsize=2**18)
def _word_hash(word: str) -> int:
    digest = hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "little")
