"""Gradients of weights by blocks of both sides, against sums in float64."""

import numpy as np
import pytest

from tests.backends.tpu.kernels.small_rows import (
    CHUNK,
    COLUMNS,
    EXPERTS,
    INNER,
    TILE,
    products_of_rows,
    routed,
    set_constants,
)

WIDTHS = (INNER, COLUMNS)


@pytest.fixture
def small(monkeypatch):
    """The constants that emission would set."""
    set_constants(monkeypatch)


@pytest.mark.parametrize("blocks", [WIDTHS, (256, 256), (256, 128), (512, 128)])
@pytest.mark.parametrize("fetches", [True, False])
@pytest.mark.parametrize("window", [TILE, CHUNK])
def test_sums_of_every_expert(small, blocks, fetches, window):
    """An expert without rows gets zeros; rows come from tokens, or from a row space."""
    ids, plan, x = routed()
    made, right = products_of_rows(plan, x, blocks, fetches, window)
    a, b = np.asarray(x, np.float64), np.asarray(right, np.float64)
    place = np.asarray(plan.sorted_row)
    expected = np.zeros((EXPERTS, *WIDTHS))
    for token, choice in np.argwhere(ids >= 0):
        expected[ids[token, choice]] += np.outer(a[token], b[place[token, choice]])
    np.testing.assert_allclose(np.asarray(made), expected, rtol=1e-5, atol=1e-4)
    assert not np.asarray(made[1]).any()
