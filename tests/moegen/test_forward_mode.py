"""Forward mode is refused in one sentence of ours, whatever JAX puts around a layer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import moegen
from ir.errors import ForwardMode
from moegen.layers import find_layer
from tests.moegen.layer_text import holds, refusal

SIZES = {"tokens": 8, "model": 4, "hidden": 4, "experts": 2}
X = jnp.ones((8, 4))
STARTS = {
    "jax.jvp": lambda f, x: jax.jvp(f, (x,), (x,)),
    "jax.jvp of jax.jit": lambda f, x: jax.jvp(jax.jit(f), (x,), (x,)),
    "jax.jit of jax.jvp": lambda f, x: jax.jit(lambda x: jax.jvp(f, (x,), (x,)))(x),
    "jax.checkpoint": lambda f, x: jax.jvp(jax.checkpoint(f), (x,), (x,)),
    "jax.linearize": lambda f, x: jax.linearize(f, x)[1](x),
    "jax.jacfwd": lambda f, x: jax.jacfwd(f)(x),
}


@pytest.fixture(scope="module")
def op(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    return moegen.compile(find_layer("glam"), cache=cache, **SIZES)


@pytest.fixture(scope="module")
def params(op):
    return op.init(jax.random.key(0))


@pytest.mark.parametrize("start", STARTS)
def test_forward_mode_is_refused(start, op, params):
    text = refusal(ForwardMode, STARTS[start], lambda x: op(params, x)[0], X)
    holds(text, ["the layer 'glam_moe' cannot be differentiated in forward mode"])
    holds(text, ["jax.jvp, jax.linearize, jax.jacfwd", "use jax.grad, jax.vjp or"])


def test_forward_mode_by_parameters_alone(op, params):
    refusal(ForwardMode, jax.jvp, lambda p: op(p, X)[0], (params,), (params,))


def test_a_jvp_that_nobody_reads_is_no_error(op, params):
    def output(x):
        return jax.jvp(lambda x: op(params, x)[0], (x,), (x,))[0]

    np.testing.assert_allclose(jax.jit(output)(X), op(params, X)[0], rtol=1e-5)


def test_reverse_mode_is_left_alone(op, params):
    """The op's gradients are the emitted module's own, bit for bit."""
    x = jax.random.normal(jax.random.key(1), X.shape)
    valid = jnp.ones(8, bool)

    def guarded(params, x):
        return op(params, x)[0].sum()

    def plain(params, x):
        return op.loaded.layer(params, x, valid)[0].sum()

    for wrap in (lambda f: f, jax.jit, jax.checkpoint):
        made = [jax.grad(wrap(f), (0, 1))(params, x) for f in (guarded, plain)]
        jax.tree.map(np.testing.assert_array_equal, *made)


def test_reverse_mode_over_a_batch(op, params):
    def slopes(x):
        return jax.vjp(lambda x: op(params, x)[0], x)[1](jnp.ones_like(x))[0]

    x = jax.random.normal(jax.random.key(1), (3, *X.shape))
    each = jnp.stack([slopes(one) for one in x])
    np.testing.assert_allclose(jax.vmap(slopes)(x), each, rtol=1e-5, atol=1e-6)
