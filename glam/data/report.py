"""What became of a source: how much was kept, and a histogram of its scores."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glam.data.writing import atomic_file
from ir.errors import BadArgument

BINS = 20
PICTURES = (".png", ".svg")


def _bins() -> NDArray[np.int64]:
    return np.zeros(BINS, np.int64)


@dataclass
class SourceReport:
    """Documents and characters of a source, read and kept, and their scores.

    `read` and `kept_scores` count documents in equal bins of the score from 0 to 1.
    """

    name: str
    documents: int = 0
    kept: int = 0
    characters: int = 0
    kept_characters: int = 0
    score_sum: float = 0.0
    scores: NDArray[np.int64] = field(default_factory=_bins)
    kept_scores: NDArray[np.int64] = field(default_factory=_bins)

    def add(self, text: str, score: float, kept: bool) -> None:
        """Count one document."""
        place = min(int(score * BINS), BINS - 1)
        self.documents += 1
        self.characters += len(text)
        self.score_sum += score
        self.scores[place] += 1
        if kept:
            self.kept += 1
            self.kept_characters += len(text)
            self.kept_scores[place] += 1

    @property
    def mean_score(self) -> float:
        return self.score_sum / max(self.documents, 1)

    def document(self) -> dict[str, Any]:
        """The report as JSON."""
        return {
            "source": self.name,
            "documents": self.documents,
            "kept": self.kept,
            "dropped": self.documents - self.kept,
            "characters": self.characters,
            "kept_characters": self.kept_characters,
            "mean_score": round(self.mean_score, 6),
            "histogram": {
                "edges": [round(i / BINS, 3) for i in range(BINS + 1)],
                "documents": self.scores.tolist(),
                "kept": self.kept_scores.tolist(),
            },
        }


def check_picture(path: Path) -> None:
    """Refuse, before any work, a picture of a kind that is not drawn here."""
    if path.suffix not in PICTURES:
        raise BadArgument(
            reason=f"the picture {path} must end with {' or '.join(PICTURES)}"
        )


def draw(reports: Iterable[SourceReport], path: Path) -> None:
    """Draw the histograms of scores, one panel a source, into a PNG or SVG file."""
    from matplotlib.figure import Figure

    check_picture(path)
    panels = list(reports)
    figure = Figure(figsize=(7.0, 0.6 + 2.2 * len(panels)), layout="constrained")
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    left = np.arange(BINS) / BINS
    for panel, report in zip(axes, panels, strict=True):
        bars = {"width": 1 / BINS, "align": "edge", "edgecolor": "white"}
        panel.bar(left, report.scores, color="#c8ccd4", label="read", **bars)
        panel.bar(left, report.kept_scores, color="#2f6f9f", label="kept", **bars)
        share = f"{report.kept / max(report.documents, 1):.1%}"
        title = f"{report.kept:,} of {report.documents:,} kept ({share})"
        panel.set_title(f"{report.name}: {title}", fontsize=10, loc="left")
        panel.set_ylabel("documents")
        panel.set_xlim(0, 1)
        panel.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False, loc="upper center", ncols=2)
    axes[-1].set_xlabel("quality score")
    with atomic_file(path, overwrite=True) as file:
        figure.savefig(file, format=path.suffix[1:], dpi=150)
