"""Every layer that ships, by name, as the expert layer of a model."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glam.model import Config, abstract, forward
from glam.model.feed_forward import unservable
from glam.model.objective import expert_metrics
from moegen.layers import SHIPPED
from tests.glam.model.small import quick, segments

CONFIG = Config(
    layers=2,
    model=8,
    hidden=12,
    heads=2,
    head=4,
    experts=4,
    vocabulary=20,
    sequence=24,
    activation_dtype="float32",
)
# What a layer needs beside the sizes of the model.
OPTIONS = {"deepseek": {"shared": 6}}
# DeepSeek's bias corrects the choice and never the gates: its gradient is zero.
WITHOUT_GRADIENT = {"deepseek": {"bias"}}
LENGTHS = ((13, 9), (24,))  # 46 tokens in 48 places


@pytest.mark.parametrize("name", SHIPPED)
def test_a_model_of_any_layer(name):
    config = replace(CONFIG, layer=name, layer_options=OPTIONS.get(name, {}))
    tokens = np.random.default_rng(2).integers(1, 20, (2, 24), np.int32)
    places, key = segments(LENGTHS, 24), jax.random.key(4)

    def objective(params, tokens):
        logits, aux = forward(config, params, tokens, places, key=key)
        total = jnp.mean(jax.nn.logsumexp(logits, axis=-1)) + aux["loss"]
        return total, (logits, aux)

    step = jax.value_and_grad(objective, has_aux=True)
    params = drawn(config)
    run = quick(step, params, tokens)
    (total, (logits, aux)), grads = run(params, tokens)
    assert logits.shape == (2, 24, 20)
    assert np.isfinite(logits).all()
    assert np.isfinite(total)
    _check_gradients(grads, params, WITHOUT_GRADIENT.get(name, set()))
    _check_load(expert_metrics(aux, jnp.asarray(places > 0)), name)
    other = tokens.copy()
    other[0, 0] = tokens[0, 0] % 19 + 1
    (_, (after, _)), _ = run(params, other)
    assert not np.array_equal(logits[0, 0], after[0, 0])


@pytest.mark.parametrize("name", SHIPPED)
def test_only_a_layer_that_looks_ahead_cannot_serve(name):
    config = replace(CONFIG, layer=name, layer_options=OPTIONS.get(name, {}))
    assert (unservable(config) is None) == (name != "expert_choice")


def drawn(config):
    """Parameters without a program that draws them."""
    random = np.random.default_rng(5)
    return jax.tree.map(
        lambda leaf: random.normal(0, 0.3, leaf.shape).astype(np.float32),
        abstract(config),
    )


def _check_gradients(grads, params, without):
    """Finite, shaped as the parameters, and none is zero that should not be."""
    assert jax.tree.map(np.shape, grads) == jax.tree.map(np.shape, params)
    moved = jax.tree.map(np.any, grads)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
    experts = moved["blocks"]["moe"].pop("feed_forward")
    assert {name for name, told in experts.items() if not told} == without
    assert all(jax.tree.leaves(moved))


def _check_load(metrics, name):
    """Rows of every expert in the one block, if the layer has experts."""
    if name == "glam_dense":
        assert metrics == {}
        return
    assert metrics["load"].shape == (1, 4)
    assert 0 < int(np.sum(metrics["load"])) <= 2 * 48
    assert 0.0 <= float(metrics["dropped"]) < 1.0
    assert float(metrics["load_ratio"]) >= 1.0
