"""Gradients of weights by blocks of both sides, against sums in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from backends.tpu.kernels import row_plan, sums
from backends.tpu.kernels.words import as_words
from tests.backends.tpu.kernels.small_rows import (
    CHOICES,
    CHUNK,
    EXPERTS,
    TILE,
    TOKENS,
    set_constants,
)

WIDTHS = (512, 256)


@pytest.fixture
def small(monkeypatch):
    """The constants that emission would set."""
    set_constants(monkeypatch)


@pytest.mark.parametrize("blocks", [WIDTHS, (256, 256), (256, 128), (512, 128)])
@pytest.mark.parametrize("fetches", [True, False])
@pytest.mark.parametrize("window", [TILE, CHUNK])
def test_sums_of_every_expert(small, blocks, fetches, window):
    """An expert without rows gets zeros; rows come from tokens, or from a row space."""
    ids = np.random.default_rng(0).choice([-1, 0, 2], size=(TOKENS, CHOICES))
    plan = row_plan.row_plan(jnp.asarray(ids, jnp.int32))
    keys = jax.random.split(jax.random.key(1))
    x = jax.random.normal(keys[0], (TOKENS, WIDTHS[0])).astype(jnp.bfloat16)
    places = plan.flat.size
    right = jax.random.normal(keys[1], (places, WIDTHS[1])).astype(jnp.bfloat16)
    left = x[plan.flat // CHOICES]
    made = sums.grouped_sums(
        lambda held, numbers: held[0],
        lambda held, numbers: held[0],
        plan,
        sums.Summed(
            left_tokens=(as_words(x),) if fetches else (),
            left=() if fetches else (left,),
            right_tokens=(),
            right=(right,),
            numbers=(),
        ),
        WIDTHS,
        jnp.float32,
        blocks,
        window,
    )
    a, b = np.asarray(x, np.float64), np.asarray(right, np.float64)
    place = np.asarray(plan.sorted_row)
    expected = np.zeros((EXPERTS, *WIDTHS))
    for token, choice in np.argwhere(ids >= 0):
        expected[ids[token, choice]] += np.outer(a[token], b[place[token, choice]])
    np.testing.assert_allclose(np.asarray(made), expected, rtol=1e-5, atol=1e-4)
    assert not np.asarray(made[1]).any()
