"""Rows by their experts' matrices, in every order of blocks, against float64."""

from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest

from backends.tpu.kernels import fetch
from tests.backends.tpu.kernels.small_rows import (
    COLUMNS,
    INNER,
    routed,
    set_constants,
    two_products,
)


@pytest.fixture
def set_cores(monkeypatch):
    """Sets the constants that emission would set, for so many cores."""
    return partial(set_constants, monkeypatch)


@pytest.mark.parametrize(
    ("blocks", "fetches", "adds", "rows_stay", "cores"),
    [
        ((INNER, 128), True, False, True, 1),
        ((INNER, 128), True, True, False, 2),
        ((INNER, 128), False, False, True, 2),
        ((128, 128), False, True, False, 2),
        ((128, 128), False, False, True, 1),
        ((256, COLUMNS), False, False, True, 2),
    ],
)
def test_rows_of_every_order_of_blocks(
    set_cores, blocks, fetches, adds, rows_stay, cores
):
    """Two products, added by the kernel or by the epilogue; and a sum over columns."""
    set_cores(cores)
    ids, plan, x = routed()
    made, sums, weights = two_products(plan, x, blocks, fetches, adds, rows_stay)
    a = np.asarray(x, np.float64)
    both = sum(np.asarray(w, np.float64) for w in weights)
    place = np.asarray(plan.sorted_row)
    for token, choice in np.argwhere(ids >= 0):
        expected = a[token] @ both[ids[token, choice]]
        found = np.asarray(made[place[token, choice]])
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)
        total = np.asarray(sums[place[token, choice], 0])
        np.testing.assert_allclose(total, expected.sum(), rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize(
    ("dtype", "width", "cores"),
    [
        (jnp.bfloat16, INNER, 2),
        (jnp.float32, INNER, 1),
        (jnp.bfloat16, 200, 1),
        (jnp.bfloat16, 257, 1),
        (jnp.bfloat16, 1, 1),
    ],
)
def test_tokens_of_every_row(set_cores, dtype, width, cores):
    """By the kernel, and by XLA where rows are no whole lanes."""
    set_cores(cores)
    ids, plan, x = routed()
    x = x[:, :width].astype(dtype)
    made = np.asarray(fetch.fetch_tokens(x, plan))
    for token, choice in np.argwhere(ids >= 0):
        place = int(plan.sorted_row[token, choice])
        np.testing.assert_array_equal(made[place], np.asarray(x[token]))
