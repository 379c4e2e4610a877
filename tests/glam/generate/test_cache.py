from functools import partial

import jax
import numpy as np
import pytest

from glam.generate.cache import advance, empty, prefill
from glam.model import forward
from tests.glam.model import small

CONFIG = small.CONFIG.serving()
PROMPT, NEW = 5, 12


@pytest.mark.smoke
def test_decoding_equals_the_full_forward_pass():
    """Prompts of different lengths, one token at a time, a row that stops early."""
    params = small.params()
    random = np.random.default_rng(5)
    tokens = random.integers(1, 40, (3, PROMPT + NEW)).astype(np.int32)
    ones = np.ones_like(tokens)
    full, _ = small.quick(partial(forward, CONFIG), params, tokens, ones)(
        params, tokens, ones
    )
    lengths = np.array([5, 3, 1], np.int32)
    cache = empty(CONFIG, 3, 20)
    given = params, cache, tokens[:, :PROMPT], lengths
    logits, cache = small.quick(partial(prefill, CONFIG), *given)(*given)
    rows = np.arange(3)
    assert_same(logits, np.asarray(full)[rows, lengths - 1])

    alive = np.array([True, True, True])
    given = params, cache, tokens[:, 0], lengths, alive
    step = small.quick(partial(advance, CONFIG), *given)
    for ahead in range(NEW):
        positions = lengths + ahead
        alive = np.array([True, ahead < 4, True])
        next_tokens = tokens[rows, positions]
        logits, cache = step(params, cache, next_tokens, positions, alive)
        truth = np.asarray(full)[rows, positions]
        assert_same(np.asarray(logits)[alive], truth[alive])


def assert_same(found, truth):
    found = np.asarray(found)
    assert np.linalg.norm(found - truth) / np.linalg.norm(truth) < 1e-5


def test_a_cache_is_as_large_as_it_says():
    cache = jax.eval_shape(lambda: empty(CONFIG, 3, 20))
    shapes = {array.shape for array in jax.tree.leaves(cache)}
    assert shapes == {(2, 3, 20, 2, 12)}
    assert cache.keys() == {"moe", "dense"}
