from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest

from glam.model import forward, loss
from tests.glam.model import small
from tests.glam.model.test_oracle import flat

BOUND = 1e-5


def relative(found, truth):
    return np.linalg.norm(found - truth) / np.linalg.norm(truth)


def step(config, params, examples):
    """The objective and its gradient."""
    gradient = jax.value_and_grad(partial(loss, config), has_aux=True)
    return small.quick(gradient, params, examples)(params, examples)


@pytest.mark.smoke
@pytest.mark.parametrize(
    "change",
    [{}, {"activation": "gelu", "z_weight": 1e-4, "remat": "products"}],
    ids=["paper", "options"],
)
def test_forward_and_gradient_are_the_oracles(change):
    config, examples = replace(small.CONFIG, **change), small.batch()
    (total, metrics), grads = step(config, small.params(), examples)
    truth, _, balances, true_grads = small.judged(config, small.params(), examples)
    assert float(total) == pytest.approx(truth, rel=1e-6)
    assert float(metrics["load_balance"]) == pytest.approx(np.mean(balances), rel=1e-6)
    assert 0 < float(metrics["dropped"]) < 0.5  # capacity is felt
    found = dict(flat(small.for_oracle(config, grads)))
    wrong = {
        name: relative(found[name], array)
        for name, array in flat(true_grads())
        if relative(found[name], array) > BOUND
    }
    assert not wrong


@pytest.fixture(scope="module")
def run():
    """Logits of tokens and segments, without capacity: as served."""
    config = small.CONFIG.serving()
    examples = small.batch()
    parts = small.params(), examples["inputs"], examples["segments"]
    return partial(small.quick(partial(forward, config), *parts), small.params())


def test_logits_are_the_oracles(run):
    examples = small.batch()
    logits, _ = run(examples["inputs"], examples["segments"])
    config = replace(small.CONFIG, capacity_factor=8.0, groups=1)
    _, truth, _, _ = small.judged(config, small.params(), examples)
    assert relative(np.asarray(logits), truth) < BOUND


def test_packed_documents_never_see_each_other(run):
    """Changing one document leaves the logits of all others bit-equal."""
    examples, other = small.batch(), small.batch(seed=1)
    before, _ = run(examples["inputs"], examples["segments"])
    changed = examples["segments"] == 2
    changed[1] = False
    assert changed.sum() == small.LENGTHS[0][1]
    inputs = np.where(changed, other["inputs"], examples["inputs"])
    after, _ = run(inputs, examples["segments"])
    before, after = np.asarray(before), np.asarray(after)
    assert not np.array_equal(before[changed], after[changed])
    assert np.array_equal(before[~changed], after[~changed])


def test_a_later_token_is_never_seen(run):
    examples = small.batch()
    inputs = examples["inputs"].copy()
    inputs[1, 100] = 7
    before, _ = run(examples["inputs"], examples["segments"])
    after, _ = run(inputs, examples["segments"])
    same = np.all(np.asarray(before) == np.asarray(after), axis=-1)
    assert same[0].all()
    assert same[1, :100].all()
    assert not same[1, 100:].any()


def test_a_dense_model_is_the_oracles():
    config = replace(small.CONFIG, experts=None, layers=3)
    params, examples = small.params(config), small.batch()
    (total, metrics), grads = step(config, params, examples)
    truth, _, _, true_grads = small.judged(config, params, examples)
    assert float(total) == pytest.approx(truth, rel=1e-6)
    assert "load" not in metrics
    found = dict(flat(small.for_oracle(config, grads)))
    for name, array in flat(true_grads()):
        assert relative(found[name], array) < BOUND, name
