import pytest

from glam.train.schedule import InverseSquareRoot
from ir.errors import BadArgument


@pytest.mark.parametrize(
    ("step", "rate"), [(0, 0.01), (10_000, 0.01), (40_000, 0.005), (1_000_000, 0.001)]
)
def test_the_papers_rate(step, rate):
    assert float(InverseSquareRoot()(step)) == pytest.approx(rate, rel=1e-6)


def test_another_plateau():
    assert float(InverseSquareRoot(0.1, 100)(400)) == pytest.approx(0.05, rel=1e-6)


@pytest.mark.parametrize("peak", [0.0, -1.0, float("nan"), float("inf")])
def test_a_peak_that_is_no_rate(peak):
    with pytest.raises(BadArgument, match=r"must be a finite number above 0"):
        InverseSquareRoot(peak)


def test_no_plateau():
    with pytest.raises(BadArgument, match=r"plateau=0 must be at least 1 step"):
        InverseSquareRoot(plateau=0)
