"""Training of the quality classifier from the user's good and bad examples."""

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count

import numpy as np

from glam.data.document import Document, held_out, unit_hash
from glam.data.quality import Features, QualityClassifier
from ir.errors import BadArgument

_HELD_OUT = 0.1
# Rows of hashed counts have length one; without room for larger weights the scores of
# good text would never come near 1, where Pareto sampling keeps it.
_INVERSE_REGULARISATION = 100.0


@dataclass(frozen=True)
class Held:
    """How well a classifier does on the examples that its training did not see."""

    examples: int
    accuracy: float
    auc: float
    positive_score: float
    negative_score: float


@dataclass(frozen=True)
class Trained:
    """A classifier, the number of examples behind it, and its held-out figures."""

    classifier: QualityClassifier
    positives: int
    negatives: int
    held: Held | None


def train_classifier(
    positives: Iterable[Document],
    negatives: Iterable[Document],
    *,
    features: Features | None = None,
    limit: int = 50_000,
) -> Trained:
    """Fit a logistic regression that gives both kinds the same weight in all.

    Of each kind the `limit` texts with the smallest hashes are used, so the order of
    reading does not matter. A tenth of them, again by hash, is held out to measure it
    (none is measured where a kind has no example there). Raises BadArgument where a
    kind is empty.
    """
    from sklearn.linear_model import LogisticRegression

    features = features or Features()
    kinds = [
        _sample(examples, limit, name)
        for examples, name in ((positives, "positive"), (negatives, "negative"))
    ]
    used = [[text for text in kind if not held_out(text, _HELD_OUT)] for kind in kinds]
    # Tiny sets can lie on one side of the split whole; then all of them train.
    used = [mine or kind for mine, kind in zip(used, kinds, strict=True)]
    truth = np.repeat([1, 0], [len(mine) for mine in used])
    model = LogisticRegression(
        C=_INVERSE_REGULARISATION, class_weight="balanced", max_iter=1000
    )
    model.fit(features.of([*used[0], *used[1]]), truth)
    classifier = QualityClassifier(
        features, model.coef_[0].astype(np.float32), float(model.intercept_[0])
    )
    rest = [[text for text in kind if held_out(text, _HELD_OUT)] for kind in kinds]
    return Trained(classifier, len(kinds[0]), len(kinds[1]), _measure(classifier, rest))


def _sample(examples: Iterable[Document], limit: int, name: str) -> list[str]:
    """Up to `limit` texts with the smallest hashes, each text once, by hash."""
    number = count()
    heap: list[tuple[float, int, str]] = []
    for text in _texts(examples):
        entry = (-unit_hash(text, "classifier"), next(number), text)
        if len(heap) < limit:
            heapq.heappush(heap, entry)
        else:
            heapq.heappushpop(heap, entry)
    if not heap:
        raise BadArgument(
            reason=f"there is no {name} example with text: the classifier learns from "
            "both kinds"
        )
    return list(dict.fromkeys(text for _, _, text in sorted(heap, reverse=True)))


def _texts(examples: Iterable[Document]) -> Iterator[str]:
    return (document.text for document in examples if document.text.strip())


def _measure(classifier: QualityClassifier, kinds: list[list[str]]) -> Held | None:
    from sklearn.metrics import roc_auc_score

    if not all(kinds):
        return None
    good, bad = (classifier.scores(texts) for texts in kinds)
    scores = np.concatenate([good, bad])
    truth = np.repeat([1, 0], [len(good), len(bad)])
    return Held(
        examples=len(scores),
        accuracy=float(np.mean((scores > 0.5) == truth)),
        auc=float(roc_auc_score(truth, scores)),
        positive_score=float(good.mean()),
        negative_score=float(bad.mean()),
    )
