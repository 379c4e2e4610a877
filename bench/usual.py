"""The usual pipeline of an expert layer: megablox between XLA's ops.

Rows are sorted by expert, gathered, multiplied by `megablox.gmm`, activated by XLA,
multiplied again, and brought back to their tokens by a gather with the inverse order
and a sum over the choices. Gradients of both gathers are gathers too, not scatters;
each of megablox' kernels has its own tiles. So the pipeline is at its best.

Weights are [experts, in, out]; activations are bfloat16.
"""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

Tile: TypeAlias = tuple[int, int, int]  # rows, inner width, columns
Function: TypeAlias = Callable[..., tuple[jax.Array, jax.Array]]
# The package's attribute `gmm` is a function that hides the module of that name.
_backend = import_module("jax.experimental.pallas.ops.tpu.megablox.gmm")


class Sizes(NamedTuple):
    """What the layer's program follows from, besides the shapes of its arguments."""

    tokens: int
    experts: int
    k: int


class Tiles(NamedTuple):
    """Tiles of a product, of its gradient for the rows, and of that for the weights."""

    forward: Tile
    rows: Tile
    weights: Tile


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def grouped(
    rows: jax.Array, weights: jax.Array, sizes: jax.Array, tiles: Tiles
) -> jax.Array:
    """[R, out] from rows [R, in], sorted by expert, and weights [E, in, out]."""
    return product(rows, weights, sizes, tiles.forward, transposed=False)


def product(
    rows: jax.Array, weights: jax.Array, sizes: jax.Array, tile: Tile, transposed: bool
) -> jax.Array:
    """megablox' grouped matmul."""
    found: jax.Array = _backend.gmm(
        rows, weights, sizes, rows.dtype, tile, transpose_rhs=transposed
    )
    return found


def gradient(
    rows: jax.Array, cotangents: jax.Array, sizes: jax.Array, tile: Tile
) -> jax.Array:
    """[E, in, out]: megablox' gradient of the weights."""
    turned = rows.swapaxes(0, 1)
    found: jax.Array = _backend.tgmm(turned, cotangents, sizes, rows.dtype, tile)
    return found


def _grouped_forward(
    rows: jax.Array, weights: jax.Array, sizes: jax.Array, tiles: Tiles
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    return grouped(rows, weights, sizes, tiles), (rows, weights, sizes)


def _grouped_backward(
    tiles: Tiles, saved: tuple[jax.Array, ...], cotangents: jax.Array
) -> tuple[jax.Array, jax.Array, None]:
    rows, weights, sizes = saved
    into_rows = product(cotangents, weights, sizes, tiles.rows, transposed=True)
    return into_rows, gradient(rows, cotangents, sizes, tiles.weights), None


grouped.defvjp(_grouped_forward, _grouped_backward)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def dispatched(x: jax.Array, order: jax.Array, inverse: jax.Array, k: int) -> jax.Array:
    """Rows [T * k, M] of the tokens, by expert; its gradient is a gather and a sum."""
    return x[order // k]


def _dispatched_backward(
    k: int, inverse: jax.Array, cotangents: jax.Array
) -> tuple[jax.Array, None, None]:
    back = cotangents[inverse].reshape(-1, k, cotangents.shape[1])
    return jnp.sum(back, axis=1), None, None


dispatched.defvjp(
    lambda x, order, inverse, k: (x[order // k], inverse), _dispatched_backward
)


@jax.custom_vjp
def collected(rows: jax.Array, order: jax.Array, inverse: jax.Array) -> jax.Array:
    """Rows in the order of the tokens; the gradient is a gather too."""
    return rows[inverse]


collected.defvjp(
    lambda rows, order, inverse: (rows[inverse], order),
    lambda order, cotangents: (cotangents[order], None, None),
)


def routed(
    x: jax.Array,
    scores: jax.Array,
    ranked: jax.Array,
    weights: tuple[jax.Array, ...],
    sizes: Sizes,
    tiles: tuple[Tiles, Tiles],
) -> tuple[jax.Array, jax.Array]:
    """Expert layer [T, M] of x, and GLaM's load-balancing loss, without its weight.

    `ranked` [T, E] is what the choice follows from, `scores` what the gates follow
    from; `weights` are the up products, then the down product.
    """
    tokens, experts, k = sizes
    _, ids = jax.lax.top_k(ranked, k)
    gates = jnp.take_along_axis(scores, ids, axis=1)
    gates = gates / jnp.sum(gates, axis=1, keepdims=True)
    flat = ids.reshape(-1)
    order = jnp.argsort(flat, stable=True)
    inverse = jnp.argsort(order)
    counts = jnp.bincount(flat, length=experts).astype(jnp.int32)

    rows = dispatched(x, order, inverse, k)
    *ups, down = weights
    inner = [grouped(rows, up, counts, tiles[0]) for up in ups]
    active = jax.nn.relu(inner[0])
    if len(ups) == 2:
        active = jax.nn.silu(inner[0]) * inner[1]
    outer = grouped(active, down, counts, tiles[1])
    back = collected(outer, order, inverse).reshape(tokens, k, -1)
    y = jnp.einsum("tkm,tk->tm", back, gates.astype(x.dtype))
    share = counts.astype(jnp.float32) / tokens
    balance = experts * jnp.mean(share * jnp.mean(scores, axis=0))
    return y.astype(x.dtype), balance


def softmax_layer(sizes: Sizes, tiles: tuple[Tiles, Tiles]) -> Function:
    """GLaM's and Mixtral's layer as a function of x, the router and the weights."""

    def run(
        x: jax.Array, router: jax.Array, *weights: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        scores = jax.nn.softmax(x.astype(jnp.float32) @ router)
        return routed(x, scores, scores, weights, sizes, tiles)

    return run


def shared_layer(sizes: Sizes, tiles: tuple[Tiles, Tiles]) -> Function:
    """DeepSeek-V3's layer: sigmoid scores, a bias on the choice, a shared expert."""

    def run(
        x: jax.Array,
        router: jax.Array,
        bias: jax.Array,
        gate: jax.Array,
        up: jax.Array,
        down: jax.Array,
        *dense: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        scores = jax.nn.sigmoid(x.astype(jnp.float32) @ router)
        y, loss = routed(x, scores, scores + bias, (gate, up, down), sizes, tiles)
        s_gate, s_up, s_down = dense
        return y + (jax.nn.silu(x @ s_gate) * (x @ s_up)) @ s_down, loss

    return run


def training(run: Function) -> Callable[..., object]:
    """The loss that `bench.ahead` takes of our layers, and all its gradients."""

    def whole(*arguments: jax.Array) -> object:
        def loss(*held: jax.Array) -> jax.Array:
            y, balance = run(*held)
            return jnp.sum(y.astype(jnp.float32)) + 0.01 * balance

        every = tuple(range(len(arguments)))
        return jax.value_and_grad(loss, argnums=every)(*arguments)

    return whole
