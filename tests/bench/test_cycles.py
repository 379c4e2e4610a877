"""The table of whole layers keeps its rows when one of them fails."""

from pathlib import Path
from typing import Any

import pytest

from backends.tpu.profile.routing import read_routing
from bench import cycles
from bench.ahead import shapes
from bench.rivals import Setting
from ir.errors import DumpFailed


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting(tmp_path, tmp_path, read_routing("uniform"))


def _held(milliseconds: float) -> dict[str, Any]:
    return {
        "ms": milliseconds,
        "mxu": 0.5,
        "kernel mxu": 0.9,
        "kernel ms": milliseconds / 2,
        "gb": 1.0,
        "class": "A",
    }


def test_a_row_is_the_pipeline_over_ours(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = next(s for s in shapes() if s.name == "Qwen3-30B")
    monkeypatch.setattr(cycles, "ours", lambda *_: "ours")
    monkeypatch.setattr(cycles, "usual", lambda *_, training: "usual")
    times = {"ours": _held(2.0), "usual": _held(3.5)}
    monkeypatch.setattr(cycles, "figures", lambda program, *_: times[program])
    row = cycles.row_of(shape, "tpu-v5e", "forward", setting)
    assert (row["ratio"], row["bar"], row["failure"]) == (1.75, 1.5, "")
    assert cycles.reached(row)
    v5p = cycles.row_of(shape, "tpu-v5p", "forward", setting)
    assert v5p["bar"] == 1.8
    assert not cycles.reached(v5p)


def test_a_row_that_fails_says_why_and_is_below_its_bar(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> dict[str, Any]:
        raise DumpFailed(what="whole_forward", reason="it took more than 600 s")

    shape = next(s for s in shapes() if s.name == "Mixtral 8x7B")
    monkeypatch.setattr(cycles, "ours", lambda *_: "ours")
    monkeypatch.setattr(cycles, "figures", refused)
    row = cycles.row_of(shape, "tpu-v4", "training", setting)
    assert "more than 600 s" in row["failure"]
    assert row["ratio"] is None
    assert not cycles.reached(row)
