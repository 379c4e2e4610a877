from dataclasses import replace

import jax
import numpy as np
import pytest

from glam.model import forward, loss
from tests.glam.model import small
from tests.glam.model.test_oracle import flat

BOUND = 1e-5


def relative(found, truth):
    return np.linalg.norm(found - truth) / np.linalg.norm(truth)


@pytest.fixture(scope="module")
def step():
    """The objective and its gradient, with options given as a configuration."""

    def objective(config, params, batch):
        return loss(config, params, batch)

    gradient = jax.value_and_grad(objective, argnums=1, has_aux=True)
    return jax.jit(gradient, static_argnums=0)


@pytest.mark.smoke
@pytest.mark.parametrize(
    "change",
    [{}, {"activation": "gelu", "z_weight": 1e-4, "remat": "products"}],
    ids=["paper", "options"],
)
def test_forward_and_gradient_are_the_oracles(step, change):
    config, examples = replace(small.CONFIG, **change), small.batch()
    (total, metrics), grads = step(config, small.params(), examples)
    truth, _, balances, true_grads = small.judged(config, small.params(), examples)
    assert float(total) == pytest.approx(truth, rel=1e-6)
    assert float(metrics["load_balance"]) == pytest.approx(np.mean(balances), rel=1e-6)
    assert 0 < float(metrics["dropped"]) < 0.5  # capacity is felt
    found = dict(flat(small.for_oracle(config, grads)))
    wrong = {
        name: relative(found[name], array)
        for name, array in flat(true_grads)
        if relative(found[name], array) > BOUND
    }
    assert not wrong


def test_logits_are_the_oracles():
    examples = small.batch()
    run = jax.jit(forward, static_argnums=0)
    logits, _ = run(
        small.CONFIG, small.params(), examples["inputs"], examples["segments"]
    )
    _, truth, _, _ = small.judged(small.CONFIG, small.params(), examples)
    assert relative(np.asarray(logits), truth) < BOUND


def test_a_dense_model_is_the_oracles(step):
    config = replace(small.CONFIG, experts=None, layers=3)
    params, examples = small.params(config), small.batch()
    (total, metrics), grads = step(config, params, examples)
    truth, _, _, true_grads = small.judged(config, params, examples)
    assert float(total) == pytest.approx(truth, rel=1e-6)
    assert "load" not in metrics
    found = dict(flat(small.for_oracle(config, grads)))
    for name, array in flat(true_grads):
        assert relative(found[name], array) < BOUND, name
