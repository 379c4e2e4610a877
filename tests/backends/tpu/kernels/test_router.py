"""The router's kernels, interpreted, against NumPy in float64."""

import jax.numpy as jnp
import numpy as np
import pytest

from backends.tpu.kernels import router as kernels
from backends.tpu.kernels.columns import (
    column_count,
    column_put,
    column_take,
    column_top_k,
    stacked,
)
from backends.tpu.kernels.exact import exact_dot, to_columns, to_rows, to_weights
from tests.backends.tpu.kernels.small_router import (
    FLOAT,
    drawn,
    route_backward,
    route_forward,
)


@pytest.fixture(autouse=True)
def interpreted(monkeypatch):
    monkeypatch.setattr(kernels, "INTERPRET", True)


CASES = [  # tokens, width, experts, groups, runs, tile, dtype
    (70, 32, 8, 1, 1, 70, "float32"),
    (300, 256, 16, 1, 2, 128, "bfloat16"),
    (300, 256, 5, 3, 3, 128, "float32"),
    (512, 2048, 32, 2, 4, 128, "bfloat16"),
    (1, 32, 3, 1, 1, 1, "bfloat16"),
]


@pytest.mark.parametrize(
    ("tokens", "width", "experts", "groups", "runs", "tile", "dtype"), CASES
)
def test_both_passes(tokens, width, experts, groups, runs, tile, dtype):
    x, router, valid, bias = drawn(tokens, width, experts, groups, dtype)
    made = route_forward(x, router, valid, bias, groups, runs, tile)
    wide = np.asarray(x, np.float64) @ np.asarray(router, np.float64).T
    wide = (wide + np.repeat(bias, tokens // groups, axis=0)) * 1.5
    scores = np.exp(wide - wide.max(axis=1, keepdims=True))
    scores /= scores.sum(axis=1, keepdims=True)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :2]
    mask = np.asarray(valid)[:, None]
    choice, gates, found, sure = made.columns
    np.testing.assert_array_equal(choice, np.where(mask, order, -1))
    np.testing.assert_allclose(found, scores, rtol=2e-5, atol=1e-7)
    chosen = np.where(mask, np.take_along_axis(scores, order, axis=1), 0)
    np.testing.assert_allclose(gates, chosen, rtol=2e-5, atol=1e-7)
    np.testing.assert_array_equal(sure, np.asarray(gates) > 0.5)
    counts, mass = made.groups
    first = np.where(mask, order, -1)[:, 0].reshape(groups, -1)
    for group in range(groups):
        mine = np.bincount(first[group][first[group] >= 0], minlength=experts)
        np.testing.assert_array_equal(counts[group], mine)
    parts = np.where(mask, scores, 0).reshape(groups, -1, experts).sum(axis=1)
    np.testing.assert_allclose(mass, parts, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(made.sums[0], [np.sum(scores**2)], rtol=1e-5)

    draws = np.random.default_rng(1)
    d_gates = draws.normal(size=(tokens, 2))
    more = draws.normal(size=(tokens, width))
    d_scores = np.zeros_like(scores)
    for token, k in np.argwhere(np.asarray(choice) >= 0):
        d_scores[token, choice[token, k]] += d_gates[token, k]
    d_logits = scores * (d_scores - (d_scores * scores).sum(axis=1, keepdims=True))
    rows = x, jnp.asarray(more, FLOAT)
    columns = found, choice, jnp.asarray(d_gates, FLOAT)
    for piece in {width, 128 if width % 128 == 0 else width}:
        blocks = tile, piece
        made = route_backward(rows, columns, router, groups, runs, blocks)
        expected = more + d_logits @ np.asarray(router, np.float64)
        np.testing.assert_allclose(made.rows[0], expected, rtol=1e-5, atol=2e-6)
        expected = d_logits.T @ np.asarray(x, np.float64)
        np.testing.assert_allclose(made.weights[0], expected, rtol=1e-4, atol=2e-5)


def test_top_k_takes_nan_first_and_ties_by_index():
    inf, nan = np.inf, np.nan
    rows = np.array(
        [
            [1, 3, 3, 2],
            [0.0, -0.0, 0.0, -1],
            [1, nan, inf, nan],
            [-inf, -inf, -inf, -inf],
            [-nan, 5, -inf, 7],
        ],
        np.float32,
    )
    found = column_top_k(jnp.asarray(rows.T), 3).T
    expected = [[1, 2, 3], [0, 1, 2], [1, 3, 2], [0, 1, 2], [0, 3, 1]]
    np.testing.assert_array_equal(found, expected)


def test_dropped_choices_take_and_put_nothing():
    scores = jnp.asarray([[np.nan, 1.0], [2.0, 3.0]], FLOAT)
    choice = jnp.asarray([[-1, 1], [1, -1]], jnp.int32)
    np.testing.assert_array_equal(column_take(scores, choice), [[0, 3], [2, 0]])
    put = column_put(jnp.asarray([[5.0, 6], [7, np.nan]], FLOAT), choice, 2)
    np.testing.assert_array_equal(put, [[0, 0], [7, 6]])
    np.testing.assert_array_equal(column_count(choice, 2), [[0, 0], [1, 1]])


def test_truths_are_stacked():
    made = stacked([jnp.array([[True, False]]), jnp.array([[False, False]])])
    np.testing.assert_array_equal(made, [[True, False], [False, False]])


@pytest.mark.parametrize("experts", [1, 3, 16])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_products_of_parts_are_products_of_float32(experts, dtype):
    """Numbers that bfloat16 would round: the error is float32's, not bfloat16's."""
    draws = np.random.default_rng(1)
    rows = jnp.asarray(draws.normal(size=(9, 384)), dtype)
    weights = jnp.asarray(1 + draws.random((experts, 384)) / 128, FLOAT)
    columns = jnp.asarray(1 + draws.random((experts, 9)) / 128, FLOAT)
    exact = [np.asarray(a, np.float64) for a in (rows, weights, columns)]
    for found, expected in [
        (to_columns(rows, weights), exact[1] @ exact[0].T),
        (to_rows(columns, weights), exact[2].T @ exact[1]),
        (to_weights(columns, rows), exact[2] @ exact[0]),
        (exact_dot(columns, columns, 1), exact[2] @ exact[2].T),
    ]:
        scale = np.abs(expected).max()
        np.testing.assert_allclose(found / scale, expected / scale, atol=2e-6)
