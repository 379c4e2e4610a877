import json

import pytest

from glam.cli import main
from glam.cost import cost, paper_energy
from ir.errors import BadArgument


def test_the_papers_energy_from_its_stated_inputs():
    assert round(paper_energy(280e9)) == 213
    assert round(paper_energy(600e9)) == 456


def test_a_run_by_hand():
    # 6 * 1e9 * 1e12 FLOPs at half of 1e15 FLOP/s: 1.2e7 s, 3,333 chip-hours.
    made = cost(10**9, 1e12, 1e15, 0.5, watts=300.0, overhead=1.2)
    assert made.flops == pytest.approx(6e21)
    assert made.chip_hours == pytest.approx(1.2e7 / 3600)
    assert made.megawatt_hours == pytest.approx(1.2e7 / 3600 * 300 * 1.2 / 1e6)


def test_command(capsys):
    assert main(["cost", "64B/64E", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["inputs"]["activated"] == 96_604_528_640
    assert told["megawatt_hours"] == pytest.approx(213, rel=0.02)
    assert main(["cost", "64B/64E"]) == 0
    out = capsys.readouterr().out
    assert "212.7 MWh, printed 213" in out
    assert "455.8 MWh, printed 456" in out


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (("--tokens", "0"), "tokens=0 must be a number above 0"),
        (("--mfu", "1.5"), "utilization=1.5 must be above 0 and at most 1"),
        (("--pue", "0.5"), "overhead=0.5 must be at least 1"),
        (("--chip", "tpu-v9"), "there is no chip 'tpu-v9'"),
    ],
)
def test_bad_use(capsys, given, sentence):
    assert main(["cost", "8B", *given]) == 2
    err = capsys.readouterr().err
    assert sentence in err
    assert err.count("\n") == 1


def test_nothing_is_computed_from_nan():
    with pytest.raises(BadArgument, match="tokens=nan"):
        cost(1, float("nan"), 1.0, 0.5)
