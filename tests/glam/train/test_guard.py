import jax
import numpy as np
import pytest

from glam.train.adafactor import adafactor
from glam.train.guard import all_finite, guarded_update
from glam.train.schedule import InverseSquareRoot

OPTIMIZER = adafactor(InverseSquareRoot(), {"w": True, "b": False})
PARAMS = {"w": np.ones((2, 4, 4), np.float32), "b": np.ones(3, np.float32)}


@jax.jit
def step(loss, gradients, state, params):
    return guarded_update(OPTIMIZER, loss, gradients, state, params)


def bits(tree):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


@pytest.mark.parametrize("planted", [np.nan, np.inf, -np.inf])
def test_a_planted_gradient_changes_no_bit(planted):
    healthy = step(np.float32(1), PARAMS, OPTIMIZER.init(PARAMS), PARAMS)
    params, state, skipped = healthy
    assert not skipped
    assert bits(params) != bits(PARAMS)
    gradients = {"w": PARAMS["w"].copy(), "b": PARAMS["b"]}
    gradients["w"][1, 2, 3] = planted
    after, state_after, skipped = step(np.float32(1), gradients, state, params)
    assert skipped
    assert bits(after) == bits(params)
    assert bits(state_after) == bits(state)


def test_a_planted_loss_changes_no_bit():
    state = OPTIMIZER.init(PARAMS)
    after, state_after, skipped = step(np.float32(np.nan), PARAMS, state, PARAMS)
    assert skipped
    assert bits((after, state_after)) == bits((PARAMS, state))


def test_integers_are_always_finite():
    assert all_finite({"count": np.int32(3), "none": ()})
