"""The printed tables: every figure of every chip, with its source."""

import re
from pathlib import Path

from backends.tpu.profile.confidence import MEANING, confidence
from backends.tpu.profile.dump import TOPOLOGIES
from backends.tpu.profile.latencies import latencies
from backends.tpu.profile.tables import sources_table, units_table

_DOC = Path(__file__).parents[4] / "docs" / "tpu-cycles.md"


def test_every_figure_has_a_row_and_a_source() -> None:
    table, sources = units_table(), sources_table()
    for chip in TOPOLOGIES:
        for name, figure in latencies(chip).figures.items():
            assert re.search(rf"^\| {name} +\|", table, re.MULTILINE)
            assert figure.source
            assert figure.source in sources
    assert "1.05e+09*" in table


def test_the_page_explains_every_class() -> None:
    text = _DOC.read_text()
    assert all(f"Class {name}:" in text or f"; {name}:" in text for name in MEANING)
    assert {confidence(c, True, False) for c in TOPOLOGIES} <= set(MEANING)
    assert confidence("v4", False, False) > confidence("v4", True, False)
