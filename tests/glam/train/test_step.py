from functools import lru_cache

import jax
import numpy as np
import pytest

from glam.train.adafactor import adafactor
from glam.train.parallel import all_devices, flags, place
from glam.train.schedule import InverseSquareRoot
from glam.train.state import abstract, first_state, flat, unflat
from glam.train.step import train_step
from tests.glam.train.toy import Numbers, toy

LEARNER, SCHEDULE = toy(), InverseSquareRoot(0.1, 3)
OPTIMIZER = adafactor(SCHEDULE, LEARNER.stacked)


def bits(tree):
    return {n: np.asarray(leaf).tobytes() for n, leaf in flat(tree).items()}


@lru_cache
def compiled():
    return train_step(LEARNER, OPTIMIZER, SCHEDULE, all_devices(), seed=0)


def run(parts, batches, stop=False):
    """States after each batch, as copies, and the metrics."""
    mesh = all_devices()
    state, states, told = first_state(LEARNER, OPTIMIZER, 0, mesh), [], []
    for batch in batches:
        placed = place(batch, parts, mesh)
        state, metrics = compiled()(state, placed, flags(stop, mesh))
        states.append(bits(state))
        told.append(jax.device_get(metrics))
    return state, states, told


@pytest.fixture
def numbers():
    batches = Numbers(poisoned=[2])
    return [next(batches) for _ in range(5)]


@pytest.mark.smoke
def test_parts_add_up_to_the_batch(numbers):
    whole, _, told = run(1, numbers)
    again, _, metrics = run(4, numbers)
    for name, leaf in flat(whole).items():
        np.testing.assert_allclose(leaf, flat(again)[name], rtol=2e-5, atol=1e-6)
    for one, other in zip(told, metrics, strict=True):
        for name in ("loss", "error", "gradient_norm", "learning_rate"):
            np.testing.assert_allclose(one[name], other[name], rtol=2e-5)


def test_a_planted_nan_changes_no_bit_but_is_counted(numbers):
    _, states, told = run(1, numbers)
    assert [bool(metrics["skipped"]) for metrics in told] == [0, 0, 1, 0, 0]
    before, after = states[1], states[2]
    counts = ("step", "skipped")
    assert {n for n in after if before[n] != after[n]} == set(counts)
    assert np.frombuffer(after["skipped"], np.int32) == 1
    assert states[3] != states[2]


def test_the_learning_rate_counts_updates(numbers):
    _, _, told = run(1, numbers)
    rates = [float(metrics["learning_rate"]) for metrics in told]
    np.testing.assert_allclose(rates, 0.1, rtol=1e-6)
    assert float(SCHEDULE(4)) < 0.1


def test_all_hear_that_one_was_told_to_stop(numbers):
    assert not run(1, numbers[:1])[2][0]["stop"]
    assert run(1, numbers[:1], stop=True)[2][0]["stop"]


def test_a_flat_state_comes_back(numbers):
    state, _, _ = run(1, numbers[:1])
    arrays = flat(state)
    assert {"params/layers/w", "params/head", "step", "skipped"} < arrays.keys()
    assert bits(unflat(arrays, abstract(state, all_devices()))) == bits(state)
