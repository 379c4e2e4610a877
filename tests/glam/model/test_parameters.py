from math import prod

import jax
import numpy as np
import pytest

from glam.family import MODELS, count
from glam.model import Config, abstract, axes, is_axes, sizes
from tests.glam.model import small


@pytest.mark.parametrize("name", MODELS)
def test_counts_are_sums_over_the_parameter_tree(name):
    arrays = jax.tree.leaves(abstract(Config.of(name)))
    assert sum(prod(array.shape) for array in arrays) == count(MODELS[name]).total
    assert {str(array.dtype) for array in arrays} == {"float32"}


def test_every_axis_has_a_name_and_that_length():
    shapes = jax.tree.leaves(abstract(small.CONFIG))
    names = jax.tree.leaves(axes(small.CONFIG), is_leaf=is_axes)
    lengths = sizes(small.CONFIG)
    for array, own in zip(shapes, names, strict=True):
        assert array.shape == tuple(lengths[name] for name in own)


def test_deviations_are_those_of_the_facts():
    layer = small.params()["blocks"]["moe"]
    model, hidden, heads, head = 16, 24, 2, 12
    wanted = {
        "query": (model * head) ** -0.5,
        "key": model**-0.5,
        "value": model**-0.5,
        "out": (heads * head) ** -0.5,
        "bias": (heads * 32) ** -0.5,
    }
    for name, deviation in wanted.items():
        found = np.std(np.asarray(layer["attention"][name]))
        assert found == pytest.approx(deviation, rel=0.2), name
    assert np.std(np.asarray(small.params()["embedding"])) == pytest.approx(1, rel=0.1)
    inner, outer = (np.asarray(layer["feed_forward"][n]) for n in ("wi", "wo"))
    assert 0.95 < np.abs(inner).max() / (3 / model) ** 0.5 <= 1
    assert 0.95 < np.abs(outer).max() / (3 / hidden) ** 0.5 <= 1
