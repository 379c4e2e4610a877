"""The curves of a run, from its record, as pictures."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

Lines = Sequence[Mapping[str, Any]]

# Title, the figure of a step's line, and whether its axis is logarithmic.
_CURVES = (
    ("Loss", "loss", False),
    ("Learning rate", "learning_rate", True),
    ("Norm of the gradient", "gradient_norm", True),
    ("Tokens a second", "tokens_per_second", False),
    ("MFU", "mfu", False),
    ("Load: largest over mean share of an expert", "load_ratio", False),
    ("Choices dropped", "dropped", False),
    ("Experts without a token", "dead_experts", False),
)
_BLUE, _ORANGE, _GREY, _RED = "#1f5fa8", "#d9822b", "#9aa5b1", "#c0392b"
# A curve of more points is drawn thinned out.
_POINTS = 2000


@dataclass(frozen=True)
class Curve:
    """A picture as SVG text, with its title."""

    title: str
    svg: str


def curves(lines: Lines) -> list[Curve]:
    """One picture for each figure that the record has."""
    steps = [line for line in lines if "event" not in line]
    drawn = []
    for title, name, logarithmic in _CURVES:
        points = [(s["step"], s[name]) for s in steps if s.get(name) is not None]
        if points:
            marks = lines if name == "loss" else ()
            drawn.append(Curve(title, _draw(points, logarithmic, marks)))
    return drawn


def _draw(points: Sequence[tuple[int, float]], logarithmic: bool, marks: Lines) -> str:
    figure = Figure(figsize=(6.4, 2.8), layout="constrained")
    axes = figure.subplots()
    thinned = points[:: -(-len(points) // _POINTS)]
    axes.plot(*zip(*thinned, strict=True), color=_BLUE, linewidth=0.9, label="training")
    _mark(axes, marks)
    if logarithmic:
        axes.set_yscale("log")
    axes.set_xlabel("step")
    axes.grid(color=_GREY, alpha=0.3, linewidth=0.5)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if marks:
        axes.legend(frameon=False, fontsize=8)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _mark(axes: Any, lines: Lines) -> None:
    """Held-out losses, skipped steps and rollbacks, beside the curve of the loss."""
    held_out = [
        (line["step"], line["loss"])
        for line in lines
        if line.get("event") == "validation" and line["loss"] is not None
    ]
    if held_out:
        x, y = zip(*held_out, strict=True)
        axes.plot(x, y, "o-", color=_ORANGE, markersize=3, label="held out")
    skipped = [line["step"] for line in lines if line.get("skipped")]
    for number, step in enumerate(skipped):
        label = None if number else "skipped"
        axes.axvline(step, color=_RED, alpha=0.5, linewidth=0.8, label=label)
    back = [line["step"] for line in lines if line.get("event") == "rollback"]
    for number, step in enumerate(back):
        label = None if number else "rollback"
        axes.axvline(step, color=_RED, linestyle="--", linewidth=1, label=label)
