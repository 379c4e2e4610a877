import pytest

from bench.claims import EXPERTS_MODEL, claim, dense_of, row
from glam.train.language_model import flops_a_token


def test_the_dense_model_costs_as_much_or_a_little_more():
    dense = dense_of(EXPERTS_MODEL)
    assert dense.experts is None
    ratio = flops_a_token(dense) / flops_a_token(EXPERTS_MODEL)
    assert 1 <= ratio < 1.01


def test_a_claim_is_judged_seed_by_seed_and_on_the_mean():
    held = claim("x", [1.0, 2.0, 3.0], [1.5, 1.9, 4.0])
    assert held["seeds that agree"] == "2 of 3"
    assert held["gain, nats a byte"] == pytest.approx(1.4 / 3)
    assert held["holds"]
    assert not claim("x", [2.0], [1.0])["holds"]


def test_a_row_tells_mean_spread_and_every_seed():
    told = row("experts", "clean", [1.0, 2.0])
    assert told["mean"] == 1.5
    assert told["sd"] == pytest.approx(0.5**0.5)
    assert told["by seed"] == "1.0000 2.0000"
    assert row("experts", "clean", [1.0])["sd"] is None
