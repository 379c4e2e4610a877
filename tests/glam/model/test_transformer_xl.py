"""Transformer-XL's relative positions, beside the float64 oracle."""

from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest

from glam.generate.cache import advance, empty, prefill
from glam.model import Config, abstract, axes, forward, init, is_axes, sizes
from glam.model.transformer_xl import sinusoids
from glam.train.language_model import flops_a_token, identity
from ir.errors import BadArgument
from tests.glam.model import oracle, small
from tests.glam.model.test_oracle import flat
from tests.glam.model.test_transformer import BOUND, relative, step

CONFIG = replace(small.CONFIG, experts=None, layers=2, position="transformer-xl")


def test_forward_and_gradient_are_the_oracles():
    params, examples = small.params(CONFIG), small.batch()
    (total, _), grads = step(CONFIG, params, examples)
    truth, _, _, true_grads = small.judged(CONFIG, params, examples)
    assert float(total) == pytest.approx(truth, rel=1e-6)
    found, wanted = (
        dict(flat(small.for_oracle(CONFIG, grads))),
        dict(flat(true_grads())),
    )
    assert found.keys() == wanted.keys()
    assert {"0.content", "1.position", "1.distance"} <= found.keys()
    wrong = {n: relative(found[n], array) for n, array in wanted.items()}
    assert max(wrong.values()) < BOUND, wrong


def test_decoding_equals_the_full_forward_pass():
    config, params = CONFIG.serving(), small.params(CONFIG)
    random = np.random.default_rng(5)
    tokens = random.integers(1, 40, (2, 12)).astype(np.int32)
    given = params, tokens, np.ones_like(tokens)
    full, _ = small.quick(partial(forward, config), *given)(*given)
    lengths, rows = np.array([5, 3], np.int32), np.arange(2)
    given = params, empty(config, 2, 20), tokens[:, :5], lengths
    logits, cache = small.quick(partial(prefill, config), *given)(*given)
    assert relative(np.asarray(logits), np.asarray(full)[rows, lengths - 1]) < BOUND
    alive = np.array([True, True])
    given = params, cache, tokens[:, 0], lengths, alive
    one = small.quick(partial(advance, config), *given)
    for positions in (lengths + ahead for ahead in range(7)):
        logits, cache = one(params, cache, tokens[rows, positions], positions, alive)
        assert relative(np.asarray(logits), np.asarray(full)[rows, positions]) < BOUND


def test_rows_out_of_order_are_told_their_positions():
    params, order = small.params(CONFIG), np.random.default_rng(2).permutation(24)
    tokens = np.random.default_rng(3).integers(1, 40, (1, 24)).astype(np.int32)
    ones, places = np.ones_like(tokens), np.arange(24, dtype=np.int32)[None]
    run = partial(forward, CONFIG)
    given = params, tokens, ones, places
    compiled = small.quick(run, *given)
    straight, _ = compiled(*given)
    mixed, _ = compiled(params, tokens[:, order], ones, places[:, order])
    assert relative(np.asarray(mixed), np.asarray(straight)[:, order]) < BOUND


@pytest.mark.parametrize("width", [1, 7, 16])
def test_sinusoids(width):
    found = sinusoids(40, width)
    assert found.shape == (40, width)
    assert found[0, 0] == 0.0
    if width % 2 == 0:
        assert np.allclose(found, oracle.waves(40, width), atol=1e-6)


def test_parameters_and_their_axes():
    shapes, names = abstract(CONFIG), axes(CONFIG)
    lengths = sizes(CONFIG)
    leaves = jax.tree.leaves(names, is_leaf=is_axes)
    for array, own in zip(jax.tree.leaves(shapes), leaves, strict=True):
        assert array.shape == tuple(lengths[name] for name in own)
    key = jax.random.key(0)
    made = small.quick(partial(init, CONFIG), key)(key)
    layer = made["blocks"]["dense"]["attention"]
    assert not np.any(layer["content"])
    assert not np.any(layer["position"])
    assert np.std(layer["distance"]) == pytest.approx(16**-0.5, rel=0.1)
    assert "bias" not in layer


def test_it_is_another_model_and_costs_more():
    plain = replace(CONFIG, position="buckets")
    assert identity(CONFIG) == identity(plain) | {"position": "transformer-xl"}
    pairs = 6 * 2 * 2 * 12 * (144 + 1) / 2
    assert flops_a_token(CONFIG) - flops_a_token(plain) == pytest.approx(pairs)
    assert Config.from_json(CONFIG.to_json()) == CONFIG
    with pytest.raises(BadArgument, match="position='rotary' must be one of buckets, "):
        replace(CONFIG, position="rotary")
