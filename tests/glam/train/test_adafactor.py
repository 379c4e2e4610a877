import jax
import numpy as np
import optax
import pytest

from glam.train.adafactor import adafactor
from glam.train.schedule import InverseSquareRoot

LEAST = 8


class Oracle:
    """Adafactor of one parameter in float64, from its formulas."""

    def __init__(self, weight):
        self.weight, self.step = weight.astype(np.float64), 0
        self.row = self.column = self.full = 0.0
        order = np.argsort(weight.shape, kind="stable")
        self.axes = None
        if weight.ndim >= 2 and weight.shape[order[-2]] >= LEAST:
            self.axes = int(order[-2]), int(order[-1])

    def second_moment(self, square, decay):
        if self.axes is None:
            self.full = decay * self.full + (1 - decay) * square
            return self.full
        small, large = self.axes
        rows, columns = (
            square.mean(large, keepdims=True),
            square.mean(small, keepdims=True),
        )
        self.row = decay * self.row + (1 - decay) * rows
        self.column = decay * self.column + (1 - decay) * columns
        return self.row * self.column / self.row.mean(small, keepdims=True)

    def update(self, gradient, rate):
        gradient = gradient.astype(np.float64)
        decay = 1 - (self.step + 1) ** -0.8
        update = gradient / np.sqrt(self.second_moment(gradient**2 + 1e-30, decay))
        update /= max(1.0, np.sqrt((update**2).mean()))
        scale = max(1e-3, np.sqrt((self.weight**2).mean()))
        self.weight = self.weight - rate * scale * update
        self.step += 1


SHAPES = {
    "experts": (3, 4, 16, 24),
    "norm": (3, 16),
    "embedding": (40, 16),
    "scale": (16,),
}
STACKED = {"experts": True, "norm": True, "embedding": False, "scale": False}


def random_tree(seed, spread):
    rng = np.random.default_rng(seed)
    # Layers of unlike size: an RMS over the stack would be wrong for each of them.
    grow = {n: 1.0 if not STACKED[n] else np.array([1e-5, 1.0, 50.0]) for n in SHAPES}
    return {
        n: (
            rng.normal(size=s)
            * spread
            * np.reshape(grow[n], (-1,) + (1,) * (len(s) - 1))
        ).astype(np.float32)
        for n, s in SHAPES.items()
    }


def split(name, value):
    return list(value) if STACKED[name] else [value]


@pytest.mark.smoke
def test_five_steps_against_float64():
    params = random_tree(0, 1.0)
    oracles = {n: [Oracle(v) for v in split(n, params[n])] for n in params}
    optimizer = adafactor(InverseSquareRoot(0.1, 2), STACKED, LEAST)
    state = optimizer.init(params)
    for step in range(5):
        gradients = random_tree(step + 1, 0.3 * 4.0**step)
        updates, state = optimizer.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
        rate = 0.1 * (2 / max(step, 2)) ** 0.5
        for name, oracle in oracles.items():
            for one, gradient in zip(oracle, split(name, gradients[name]), strict=True):
                one.update(gradient, rate)
    for name, oracle in oracles.items():
        for one, got in zip(oracle, split(name, np.asarray(params[name])), strict=True):
            worst = np.abs(got - one.weight).max() / np.abs(one.weight).max()
            assert worst < 3e-6, name


def test_large_arrays_keep_factors_alone():
    params = {"w": np.zeros((2, 128, 512), np.float32)}
    optimizer = adafactor(InverseSquareRoot(), {"w": True})
    sizes = [leaf.size for leaf in jax.tree.leaves(optimizer.init(params))]
    assert sum(sizes) < 2 * (128 + 512) + 16


def test_nothing_stacked():
    params = {"w": np.ones(4, np.float32)}
    optimizer = adafactor(InverseSquareRoot(), {"w": False})
    updates, _ = optimizer.update(params, optimizer.init(params), params)
    np.testing.assert_allclose(updates["w"], -0.01 * np.ones(4), rtol=1e-6)
