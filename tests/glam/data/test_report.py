import numpy as np
import pytest

from glam.data.report import BINS, SourceReport, draw
from ir.errors import BadArgument


def report():
    made = SourceReport("web")
    for score, kept in [(0.0, False), (0.04, False), (0.96, True), (1.0, True)]:
        made.add("four", score, kept)
    return made


def test_counts_and_histogram():
    made = report().document()
    assert (made["documents"], made["kept"], made["dropped"]) == (4, 2, 2)
    assert (made["characters"], made["kept_characters"]) == (16, 8)
    assert made["mean_score"] == 0.5
    histogram = made["histogram"]
    assert histogram["documents"] == [2, *[0] * (BINS - 2), 2]
    assert histogram["kept"] == [*[0] * (BINS - 1), 2]
    assert histogram["edges"][0] == 0
    assert histogram["edges"][-1] == 1


def test_a_picture_shows_what_was_kept(tmp_path):
    from matplotlib.image import imread

    path = tmp_path / "scores.png"
    draw([report(), SourceReport("empty")], path)
    pixels = imread(path)[..., :3]
    kept = np.all(np.abs(pixels - np.array([47, 111, 159]) / 255) < 0.02, axis=-1)
    rows, columns = np.nonzero(kept)
    # The bars stand at the right; the legend's mark is in the middle.
    assert (columns > 0.9 * pixels.shape[1]).sum() > 0.5 * len(columns)
    assert rows.max() < 0.6 * pixels.shape[0]


def test_a_drawing_and_other_kinds(tmp_path):
    draw([report()], tmp_path / "scores.svg")
    assert (tmp_path / "scores.svg").read_text().startswith("<?xml")
    with pytest.raises(BadArgument, match=r"must end with .png or .svg"):
        draw([report()], tmp_path / "scores.gif")
