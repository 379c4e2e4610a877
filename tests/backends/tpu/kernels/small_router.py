"""A router's two programs, its operands, and what it makes of them."""

import jax.numpy as jnp
import numpy as np

from backends.tpu.kernels.columns import (
    column_count,
    column_put,
    column_softmax,
    column_softmax_grad,
    column_take,
    column_top_k,
)
from backends.tpu.kernels.exact import to_columns, to_rows, to_weights
from backends.tpu.kernels.router import own_tokens, route
from backends.tpu.kernels.router_blocks import Made, Routed

FLOAT = jnp.float32


def forward(left, given):
    (x,), (valid,), (router,) = given.rows, given.columns, given.weights
    (bias,), (heat,) = given.groups, given.vectors
    scores = column_softmax((to_columns(x, router) + bias) * heat)
    choice = jnp.where(valid, column_top_k(scores, 2), -1)
    gates = column_take(scores, choice)
    counts = column_count(choice[:1], scores.shape[0])
    losses = jnp.sum(scores * scores, axis=0, keepdims=True)
    return Made(
        columns=(choice, gates, scores, gates > 0.5),
        groups=(counts, jnp.where(valid, scores, 0.0)),
        sums=(losses,),
    )


def backward(left, given):
    (x, more), (router,) = given.rows, given.weights
    scores, choice, d_gates = given.columns
    d_scores = column_put(d_gates, choice, scores.shape[0])
    d_logits = column_softmax_grad(scores, d_scores)
    d_router = to_weights(own_tokens(d_logits, left, 1), own_tokens(x[...], left, 0))
    return Made(rows=(more[...] + to_rows(d_logits, router),), weights=(d_router,))


def drawn(tokens, width, experts, groups, dtype):
    """Tokens, the router's matrix, which tokens are valid, and a bias a group."""
    draws = np.random.default_rng(0)
    x = jnp.asarray(draws.normal(size=(tokens, width)), dtype)
    router = jnp.asarray(draws.normal(size=(experts, width)) / width**0.5, FLOAT)
    valid = jnp.asarray(draws.random(tokens) < 0.8)
    bias = jnp.asarray(draws.normal(size=(groups, experts)), FLOAT)
    return x, router, valid, bias


def route_forward(x, router, valid, bias, groups, runs, tile):
    """Choices, gates, scores and truths; counts and masses of groups; losses."""
    experts, width = router.shape
    columns = ((2, jnp.int32), (2, FLOAT), (experts, FLOAT), (2, jnp.bool_))
    return route(
        forward,
        Routed((x,), (valid,), (bias,), (jnp.float32(1.5),), (router,)),
        Made((), columns, ((experts, jnp.int32), (experts, FLOAT)), ((1, FLOAT),)),
        groups,
        runs,
        (tile, width),
    )


def route_backward(rows, columns, router, groups, runs, blocks):
    """The tokens' cotangents and the matrix'."""
    width = router.shape[1]
    return route(
        backward,
        Routed(rows, columns, weights=(router,)),
        Made(((width, FLOAT),), weights=((router.shape, FLOAT),)),
        groups,
        runs,
        blocks,
    )
