"""Pareto sampling: most of the good text, and a little of all the rest.

A hard threshold would make the classifier's prejudices systematic. GPT-3's rule, which
Du et al. 2021 cite, keeps a text if pareto(alpha) > 1 - score.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from glam.data.document import Document, unit_hash
from glam.data.quality import QualityClassifier
from ir.errors import BadArgument

ALPHA = 9.0
_AT_ONCE = 256


def keep_probability(score: float, alpha: float = ALPHA) -> float:
    """P(pareto(alpha) > 1 - score) = (2 - score)^-alpha, for a score in 0..1.

    The Pareto distribution here begins at 0 (Lomax), as NumPy's does.
    """
    return float((2.0 - score) ** -alpha)


def keeps(text: str, score: float, alpha: float = ALPHA, seed: int = 0) -> bool:
    """Whether a text is kept: a draw of its own, from the text and the seed."""
    return unit_hash(text, f"pareto {seed}") < keep_probability(score, alpha)


class Judged(NamedTuple):
    """A document, its score, and whether it is kept."""

    document: Document
    score: float
    kept: bool


def judge(
    documents: Iterable[Document],
    classifier: QualityClassifier,
    *,
    alpha: float = ALPHA,
    seed: int = 0,
) -> Iterator[Judged]:
    """Score documents as they come and decide for each, whatever the others are.

    A document without text scores 0 and is dropped. Raises BadArgument where alpha is
    not positive.
    """
    if not alpha > 0:
        raise BadArgument(reason=f"alpha={alpha:g} must be positive; GPT-3 used 9")
    waiting = iter(documents)
    while group := list(islice(waiting, _AT_ONCE)):
        scores = classifier.scores([document.text for document in group])
        for document, given in zip(group, scores.tolist(), strict=True):
            if not document.text.strip():
                yield Judged(document, 0.0, False)
                continue
            kept = keeps(document.text, given, alpha, seed)
            yield Judged(document, given, kept)
