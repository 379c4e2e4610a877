"""The quality classifier: a linear model on hashed words and pairs of words.

Du et al. 2021, section 3: it learns to tell curated text from other pages, and its
score estimates the quality of a text.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from glam.data.writing import atomic_file
from ir.errors import BadArgument

_FORMAT, _VERSION = "glam quality classifier", "1"


@dataclass(frozen=True)
class Features:
    """How a text becomes a row of hashed counts, of length one.

    Words are lower-cased, a punctuation mark is a word, pairs of neighbours count too.
    Only the first `characters` of a text are read.
    """

    size: int = 2**18
    characters: int = 20_000

    def __post_init__(self) -> None:
        if self.size < 2 or self.characters < 1:
            raise BadArgument(
                reason=f"{self.size} features of {self.characters} characters: use at "
                "least 2 features and 1 character"
            )

    def of(self, texts: Iterable[str]) -> Any:
        """A sparse matrix [texts, size]."""
        from sklearn.feature_extraction.text import HashingVectorizer

        hashing = HashingVectorizer(
            n_features=self.size, ngram_range=(1, 2), token_pattern=r"\w+|[^\w\s]"
        )
        return hashing.transform([text[: self.characters] for text in texts])


@dataclass(frozen=True)
class QualityClassifier:
    """sigmoid(features . weights + intercept); weights are float32 [features]."""

    features: Features
    weights: NDArray[np.float32]
    intercept: float

    def scores(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """The quality of each text, in 0..1; [texts]."""
        if not texts:
            return np.zeros(0)
        logits = self.features.of(texts) @ self.weights.astype(np.float64)
        scores: NDArray[np.float64] = 0.5 + 0.5 * np.tanh((logits + self.intercept) / 2)
        return scores

    def save(self, path: Path, overwrite: bool = False) -> None:
        """Write a safetensors file."""
        from safetensors.numpy import save

        metadata = {
            "format": _FORMAT,
            "version": _VERSION,
            "features": json.dumps(vars(self.features)),
        }
        tensors: dict[str, NDArray[Any]] = {
            "weights": self.weights,
            "intercept": np.array([self.intercept], np.float64),
        }
        with atomic_file(path, overwrite) as file:
            file.write(save(tensors, metadata))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote; BadArgument where the file is anything else."""
        from safetensors import SafetensorError, safe_open

        if not path.is_file():
            raise BadArgument(
                reason=f"there is no classifier {path}; make one with `glam data "
                "classify train`"
            )
        try:
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise _broken(path, str(error)) from None
        if (metadata.get("format"), metadata.get("version")) != (_FORMAT, _VERSION):
            raise _broken(path, f"its format is {metadata.get('format', 'unknown')}")
        try:
            features = Features(**json.loads(metadata["features"]))
            weights, intercept = tensors["weights"], float(tensors["intercept"][0])
        except (KeyError, TypeError, ValueError) as error:
            raise _broken(path, str(error)) from None
        if weights.shape != (features.size,):
            raise _broken(path, f"{weights.shape} weights for {features.size} features")
        return cls(features, weights, intercept)


def _broken(path: Path, why: str) -> BadArgument:
    return BadArgument(
        reason=f"{path} is not a classifier of `glam data classify train`: {why}"
    )
