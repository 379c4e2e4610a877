"""The router: one pass over tiles of tokens, forward or backward.

The program is the layer's own: from a tile of tokens to what is kept of each (choices,
gates, scores, or the cotangent of its row) and to its share of sums over tokens (counts
of choices, losses, the gradient of the router's weights). Rows [N, D] lie as they are;
what is narrow is turned, so that tokens lie along the lanes (see `columns.py`).

The grid is (cores, pieces of D, runs of a core, tiles of a run).
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from backends.tpu.kernels.result_type import result_type
from backends.tpu.kernels.router_blocks import (
    Cut,
    Made,
    Routed,
    cut_of,
    finished,
    made_blocks,
    made_shapes,
    read_blocks,
    turned,
)
from backends.tpu.kernels.rows import INTERPRET, VMEM_LIMIT, grouped_refs

# (tokens of the tile, or None where all tiles are full; a Routed) -> a Made.
RouterProgram = Callable[[Any, Any], Any]


def route(
    program: RouterProgram,
    routed: Routed,
    made: Made,
    groups: int,
    runs: int,
    blocks: tuple[int, int],
) -> Made:
    """Run a program over all tokens, in tiles of blocks[0] and pieces of blocks[1].

    Places beyond a run's last token are in no sum, whatever they hold. Sums are float32
    or int32. A program that sums over D gets it in one piece.
    """
    cut = cut_of(routed, made, groups, runs, blocks)
    operands = turned(routed, cut)
    counts = (*map(len, routed), *map(len, made))

    def kernel(*refs: Any) -> None:
        held = grouped_refs(refs, counts)
        rows, columns, groups, vectors, weights = held[:5]
        outs = Made(*held[5:])
        run, tile = pl.program_id(2), pl.program_id(3)
        left = None if cut.size % cut.tokens == 0 else cut.size - tile * cut.tokens
        given = Routed(
            tuple(rows),
            tuple(
                ref[...] != 0 if column.dtype == jnp.bool_ else ref[...]
                for ref, column in zip(columns, routed.columns, strict=True)
            ),
            tuple(ref[...] for ref in groups),
            tuple(ref[...] for ref in vectors),
            tuple(weights),
        )
        found = program(left, given)
        write_results(outs.rows, found.rows)
        write_results(outs.columns, found.columns)
        first = (run == 0) & (tile == 0)
        add_shares(
            outs.groups, shares_of(found.groups, outs.groups, left, cut), tile == 0
        )
        add_shares(outs.sums, shares_of(found.sums, outs.sums, left, cut), first)
        add_shares(outs.weights, found.weights, first)

    results = pl.pallas_call(
        kernel,
        grid=cut[:4],
        in_specs=read_blocks(routed, cut),
        out_specs=made_blocks(made, cut),
        out_shape=[
            result_type(shape, dtype, *operands)
            for shape, dtype in made_shapes(made, cut)
        ],
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "arbitrary", "arbitrary", "arbitrary"),
            vmem_limit_bytes=VMEM_LIMIT,
        ),
        interpret=INTERPRET,
        name="router",
    )(*operands)
    return finished(made, Made(*grouped_refs(results, counts[5:])), cut)


def write_results(refs: Sequence[Any], values: Sequence[jax.Array]) -> None:
    """Write results; a narrower value fills its columns."""
    for ref, value in zip(refs, values, strict=True):
        ref[...] = jnp.broadcast_to(value.astype(ref.dtype), ref.shape)


def add_shares(
    refs: Sequence[Any], values: Sequence[jax.Array], first: jax.Array
) -> None:
    """Add a tile's shares to sums, which begin at zero."""
    for ref, value in zip(refs, values, strict=True):

        @pl.when(first)
        def _(ref: Any = ref) -> None:
            ref[...] = jnp.zeros_like(ref)

        ref[...] += value.astype(ref.dtype)


def shares_of(
    columns: Sequence[jax.Array], refs: Sequence[Any], left: Any, cut: Cut
) -> list[jax.Array]:
    """[W, L] from each [W, N]: tokens' own numbers, added up L lanes at a time."""
    found = []
    for values, ref in zip(columns, refs, strict=True):
        width, lanes = ref.shape
        own = own_tokens(jnp.broadcast_to(values, (width, cut.tokens)), left, 1)
        pieces = [own[:, i : i + lanes] for i in range(0, cut.tokens, lanes)]
        found.append(sum(pieces[1:], start=pieces[0]))
    return found


def own_tokens(values: jax.Array, left: Any, axis: int) -> jax.Array:
    """The values, zero where a tile reaches beyond its run's last token."""
    if left is None:
        return values
    token = lax.broadcasted_iota(jnp.int32, values.shape, axis)
    return jnp.where(token < left, values, 0)
