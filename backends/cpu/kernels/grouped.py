"""The experts' work on the CPU: one expert after another, tile by tile of its rows.

Rows are fetched in sorted order, all at once: inside a loop XLA gathers them number by
number. Each expert with rows has its weights sliced out (XLA copies the slice, casting
it on the way) and its rows worked on and stored. The weights of an expert without rows
are never read, and no temporary grows with the number of experts.

T tokens with K choices each make R = T * K flat rows; E experts.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from backends.cpu.kernels.products import PRODUCT_DTYPE
from backends.cpu.kernels.row_plan import RowPlan

CHOICES = 2  # K
PADDING = 256  # places past a row space's last row: the largest tile of any call
COMPUTE_DTYPE = jnp.float32  # what the body is given
GRADIENT_DTYPE = jnp.float32  # what the sums over an expert's rows are stored in

Arrays = tuple[jax.Array, ...]
Body = Callable[[jax.Array, Arrays, Arrays], tuple[Arrays, Arrays]]


class Operands(NamedTuple):
    """What the body reads: rows at their own places, and the weights of all experts."""

    rows: Arrays  # row spaces [R + PADDING, D] each
    weights: Arrays  # [E, A, B] each; [E, B] reads as [1, B]


class Work(NamedTuple):
    """What one call does: the body, and the row counts it is compiled for."""

    body: Body
    tiles: tuple[int, ...]
    by_columns: bool  # whether the body gives rows as columns
    plan: RowPlan


class Run(NamedTuple):
    """Consecutive sorted rows of one expert, int32[] each."""

    expert: jax.Array
    start: jax.Array
    length: jax.Array


def grouped(
    body: Body,
    plan: RowPlan,
    tokens: Arrays,
    choices: Arrays,
    kept: Arrays,
    weights: Arrays,
    tiles: tuple[int, ...],
    by_columns: bool = False,
) -> tuple[Arrays, Arrays]:
    """Run `body` on every kept row with the weights of its expert.

    A row reads its token of `tokens` [T, D], its choice of `choices` [T, K] (as [1]),
    its own place of the row spaces `kept` [R + PADDING, D], and its expert's matrix of
    `weights` [E, A, B], or [E, B] as [1, B].

    `body(own, rows, weights)` is given [C, D] rows (of tokens, choices, kept, in
    order) in COMPUTE_DTYPE and one expert's [A, B] weights, and which rows are the
    expert's, bool[C, 1] (the others are zeros); it returns rows [C, D] and sums over
    its own rows [A, B]. Rows come back in row spaces [R + PADDING, D], sorted as in
    the plan and as the body typed them; sums as [E, A, B] of GRADIENT_DTYPE, zero for
    experts without rows. C is the smallest of `tiles` that holds the expert's rows;
    more rows than the largest take several runs. With `by_columns` it returns columns
    [D, C], and there are no sums.
    """
    work = Work(body, tiles, by_columns, plan)
    flat = jnp.pad(plan.flat, (0, PADDING))
    fetched = (
        *(t[flat // CHOICES] for t in tokens),
        *(c.reshape(-1, 1)[flat] for c in choices),
    )
    operands = Operands((*fetched, *kept), weights)
    no_run = Run(*3 * (jnp.int32(0),))
    rows_shape, sums_shape = jax.eval_shape(
        lambda: run_body(work, 1, no_run, slice_weights(operands, jnp.int32(0)))
    )
    places = plan.flat.size + PADDING
    row_spaces = tuple(jnp.zeros((places, r.shape[-1]), r.dtype) for r in rows_shape)
    experts = plan.sizes.size
    sums = tuple(jnp.zeros((experts, *s.shape), GRADIENT_DTYPE) for s in sums_shape)

    index = lax.iota(jnp.int32, experts)
    # Ascending, so that a tile's surplus rows are overwritten by the next expert.
    active = lax.sort(jnp.where(plan.sizes > 0, index, experts))

    def step(i: jax.Array, state: tuple[Arrays, Arrays]) -> tuple[Arrays, Arrays]:
        run = Run(active[i], plan.starts[active[i]], plan.sizes[active[i]])
        return run_expert(work, run, operands, *state)

    count = jnp.sum(plan.sizes > 0, dtype=jnp.int32)
    return lax.fori_loop(0, count, step, (row_spaces, sums))


def run_expert(
    work: Work, run: Run, operands: Operands, row_spaces: Arrays, sums: Arrays
) -> tuple[Arrays, Arrays]:
    """Work on all rows of one expert, tiles[-1] rows at a time."""
    largest = work.tiles[-1]
    single = work.plan.flat.size <= largest
    if not single:
        own = slice_weights(operands, run.expert).weights
        cast = tuple(weight.astype(PRODUCT_DTYPE) for weight in own)
        operands = operands._replace(weights=cast)

    def tile(i: jax.Array, row_spaces: Arrays) -> tuple[Arrays, Arrays]:
        done = i * largest
        rest = Run(run.expert, run.start + done, run.length - done)
        return run_tile(work, rest, operands, row_spaces, single)

    def further(i: jax.Array, state: tuple[Arrays, Arrays]) -> tuple[Arrays, Arrays]:
        row_spaces, terms = tile(i, state[0])
        return row_spaces, tuple(s + t for s, t in zip(state[1], terms, strict=True))

    # The first tile stands before the loop: most experts have no other, and zeroing
    # and adding sums of the weights' size is dear.
    row_spaces, total = tile(jnp.int32(0), row_spaces)
    if not single:
        tiles = (run.length + largest - 1) // largest
        row_spaces, total = lax.fori_loop(1, tiles, further, (row_spaces, total))
    return row_spaces, tuple(
        lax.dynamic_update_index_in_dim(s, t.astype(s.dtype), run.expert, 0)
        for s, t in zip(sums, total, strict=True)
    )


def slice_weights(operands: Operands, expert: jax.Array) -> Operands:
    """`operands` with one expert's weights, [A, B] or [1, B] each."""

    def one(weight: jax.Array) -> jax.Array:
        # The barrier keeps XLA from casting all experts' weights ahead of the loop.
        weight, index = lax.optimization_barrier((weight, expert))
        return lax.dynamic_index_in_dim(weight, index, keepdims=weight.ndim == 2)

    return operands._replace(weights=tuple(one(w) for w in operands.weights))


def run_tile(
    work: Work, run: Run, operands: Operands, row_spaces: Arrays, single: bool
) -> tuple[Arrays, Arrays]:
    """Work on the next rows of `run`, in the smallest tile that holds them."""

    def branch(size: int) -> Callable[[Arrays], tuple[Arrays, Arrays]]:
        def in_tile(row_spaces: Arrays) -> tuple[Arrays, Arrays]:
            own = operands
            if single:  # a slice inside a lone tile can be fused into its use
                own = slice_weights(operands, run.expert)
            rows, sums = run_body(work, size, run, own)
            return tuple(
                lax.dynamic_update_slice_in_dim(space, r, run.start, 0)
                for space, r in zip(row_spaces, rows, strict=True)
            ), sums

        return in_tile

    smaller = jnp.array(work.tiles[:-1], jnp.int32)
    bucket = jnp.sum(run.length > smaller, dtype=jnp.int32)
    return lax.switch(bucket, [branch(size) for size in work.tiles], row_spaces)


def run_body(
    work: Work, size: int, run: Run, operands: Operands
) -> tuple[Arrays, Arrays]:
    """The body's outputs for the first `size` rows of `run`."""
    held = (lax.dynamic_slice_in_dim(r, run.start, size) for r in operands.rows)
    # Rows beyond the run are other experts': they must not reach the sums.
    own = (lax.iota(jnp.int32, size) < run.length)[:, None]
    rows = tuple(jnp.where(own, h, 0).astype(COMPUTE_DTYPE) for h in held)
    made, sums = work.body(own, rows, operands.weights)
    if not work.by_columns:
        return made, sums
    # The barrier keeps XLA from folding the transposes into the products.
    return tuple(column.T for column in lax.optimization_barrier(made)), sums
