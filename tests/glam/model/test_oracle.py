"""The oracle's own gradients, by central differences of its loss."""

from dataclasses import replace

import numpy as np
import pytest

from tests.glam.model import oracle, small

STEP = 1e-6


def flat(tree):
    """(name, array) of every parameter."""
    for name, array in tree.items():
        if name != "layers":
            yield name, array
    for number, layer in enumerate(tree["layers"]):
        for name, array in layer.items():
            yield f"{number}.{name}", array


CHANGES = (
    {"activation": "relu"},
    {"activation": "gelu"},
    {"position": "transformer-xl", "experts": None, "layers": 2},
)


@pytest.fixture(scope="module", params=CHANGES, ids=lambda change: str(change))
def judged(request):
    config = replace(small.CONFIG, z_weight=1e-3, **request.param)
    sizes = small.oracle_sizes(config)
    params = small.params(replace(config, z_weight=0.0, activation="relu"))
    tree = small.for_oracle(config, params)
    examples = small.batch()
    parts = [examples[n][:, 60:108] for n in ("inputs", "targets", "segments")]

    def loss():
        return oracle.model(sizes, tree, *parts)[0]

    return tree, loss, dict(flat(oracle.model(sizes, tree, *parts)[3]()))


def test_gradients_are_slopes(judged):
    tree, loss, grads = judged
    random = np.random.default_rng(1)
    assert grads.keys() == dict(flat(tree)).keys()
    for name, array in flat(tree):
        way = random.standard_normal(array.shape)
        way /= np.linalg.norm(way)
        array += STEP * way
        above = loss()
        array -= 2 * STEP * way
        slope = (above - loss()) / (2 * STEP)
        array += STEP * way
        found = np.sum(grads[name] * way)
        assert slope == pytest.approx(found, abs=1e-6 * np.linalg.norm(grads[name]))
