"""Each token's rows are fetched and added, against float64."""

import jax.numpy as jnp
import numpy as np
import pytest

from backends.tpu.kernels.combine_rows import combine_rows
from tests.backends.tpu.kernels.small_rows import (
    INNER,
    TOKENS,
    routed,
    set_constants,
)


@pytest.mark.parametrize("cores", [1, 2])
@pytest.mark.parametrize("gated", [True, False])
def test_dropped_choices_add_nothing(monkeypatch, cores, gated):
    """Not even where nobody wrote: rows of float32, NaN where there is no row."""
    set_constants(monkeypatch, cores)
    ids, plan, _ = routed()
    rows = np.full((plan.flat.size, INNER), np.nan, np.float32)
    place, (token, choice) = np.asarray(plan.sorted_row), np.nonzero(ids >= 0)
    drawn = np.random.default_rng(1)
    rows[place[token, choice]] = drawn.normal(size=(token.size, INNER))
    gates = np.where(ids < 0, np.nan, drawn.normal(size=ids.shape))
    given = [jnp.asarray(gates, jnp.float32)] if gated else []
    made = combine_rows(jnp.asarray(rows), plan, jnp.float32, *given)
    expected = np.zeros((TOKENS, INNER))
    for t, k in zip(token, choice, strict=True):
        expected[t] += rows[place[t, k]] * (gates[t, k] if gated else 1)
    np.testing.assert_allclose(np.asarray(made), expected, rtol=1e-5, atol=1e-5)
    assert made.shape == (TOKENS, INNER)
