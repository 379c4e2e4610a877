"""Statistics of paired samples, on timings that are made up."""

import pytest

from bench.timing import paired_ratio, spread


def test_a_single_sample_is_its_own_spread():
    made = spread((2.0,))
    assert (made.low, made.median, made.high) == (2.0, 2.0, 2.0)


def test_quartiles_are_inclusive():
    made = spread((1.0, 2.0, 3.0, 4.0, 5.0))
    assert (made.low, made.median, made.high) == (2.0, 3.0, 4.0)


def test_ratios_are_taken_within_rounds():
    # The machine slows down tenfold in the middle; the ratio does not notice.
    theirs = (1.0, 10.0, 1.0, 10.0)
    ours = tuple(1.5 * t for t in theirs)
    made = paired_ratio(ours, theirs)
    assert made.low == pytest.approx(1.5)
    assert made.high == pytest.approx(1.5)


def test_unequal_rounds_are_refused():
    with pytest.raises(ValueError, match="zip"):
        paired_ratio((1.0,), (1.0, 2.0))
