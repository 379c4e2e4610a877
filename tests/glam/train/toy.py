"""A small model that compiles at once, and batches of numbers for it."""

import jax
import jax.numpy as jnp
import numpy as np

from glam.train.learner import Learner

WIDTH = 6


def toy(width=WIDTH, name="toy"):
    """Two stacked layers and a linear head, trained to repeat a fixed function."""

    def init(key):
        a, b = jax.random.split(key)
        return {
            "layers": {"w": jax.random.normal(a, (2, width, width)) / width**0.5},
            "head": jax.random.normal(b, (width,)),
        }

    def loss(params, batch, key):
        x = batch["x"]
        for layer in range(2):
            x = x + jnp.tanh(x @ params["layers"]["w"][layer])
        error = x @ params["head"] - batch["y"]
        noise = jax.random.normal(key, ())
        return (error**2).mean(), {"largest": jnp.abs(error).mean(), "noise": noise}

    stacked = {"layers": {"w": True}, "head": False}
    return Learner(init, loss, stacked, {"name": name, "width": width}, 6.0 * width**2)


class Numbers:
    """Endless seeded batches; those whose numbers are in `poisoned` hold a NaN."""

    def __init__(self, rows=8, poisoned=(), seed=0):
        self.rows, self.poisoned, self.seed, self.at = rows, set(poisoned), seed, 0

    def __next__(self):
        rng = np.random.default_rng((self.seed, self.at))
        x = rng.normal(size=(self.rows, WIDTH)).astype(np.float32)
        y = np.sin(x.sum(1)).astype(np.float32)
        if self.at in self.poisoned:
            x[0, 0] = np.nan
        self.at += 1
        return {"x": x, "y": y}

    def get_state(self):
        return {"at": self.at}

    def set_state(self, state):
        self.at = state["at"]
