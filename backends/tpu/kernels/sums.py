"""Gradients of weights: for each expert the sum over its rows of a^T b.

The grid is (blocks of A, blocks of B, tiles of rows). An expert's tiles follow one
another, so its sum stays on the chip until it is whole. An expert without rows has one
empty tile, and gets zeros.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from backends.tpu.kernels.chunks import (
    CHUNK_ROWS,
    for_chunks,
    in_lines,
    rows_at,
    to_column,
)
from backends.tpu.kernels.copies import fetch_ahead
from backends.tpu.kernels.result_type import result_type
from backends.tpu.kernels.row_plan import CHOICES, EXPERTS, TILE_ROWS, RowPlan
from backends.tpu.kernels.rows import (
    COMPUTE_DTYPE,
    INTERPRET,
    VMEM_LIMIT,
    grouped_refs,
    precision,
    read,
)
from backends.tpu.kernels.words import from_words

Arrays = tuple[jax.Array, ...]
# (blocks of rows, numbers per row) -> one operand [rows, width of a block].
Side = Callable[[Arrays, Arrays], jax.Array]


class Summed(NamedTuple):
    """What the two operands are made of."""

    left_tokens: Arrays  # [T, A] as words: the kernel fetches rows of it
    left: Arrays  # row spaces [PLACES, A]
    right_tokens: Arrays  # [T, B] as words
    right: Arrays  # row spaces [PLACES, B]
    numbers: Arrays  # row spaces [PLACES, 1], for both


def grouped_sums(
    left: Side,
    right: Side,
    plan: RowPlan,
    summed: Summed,
    widths: tuple[int, int],
    dtype: Any,
    blocks: tuple[int, int],
) -> jax.Array:
    """[E, A, B] of `dtype`: sums over each expert's rows of left^T right, in float32.

    `widths` are A and B, and `blocks` the sizes that they are cut in; a last block may
    hold more. The width of a side with tokens is not cut.
    """
    fetching = len(summed.left_tokens) + len(summed.right_tokens)
    counts = (*(min(fetching, 1),) * 2, *map(len, summed), 1, 1, *(fetching,) * 2)

    def kernel(
        expert: Any, tile: Any, filled: Any, tiles: Any, *flat_refs: Any
    ) -> None:
        del tile
        first, following, *refs = grouped_refs(flat_refs, counts)
        left_tokens, left_refs, right_tokens, right_refs, number_refs = refs[:5]
        (out,), (total,), buffers, arrived = refs[5:]
        m = pl.program_id(2)
        later = jnp.minimum(m + 1, tiles[0] - 1)
        sources = (*left_tokens, *right_tokens)
        copied = [
            (
                buffer,
                fetch_ahead(
                    source,
                    buffer,
                    done,
                    m,
                    tiles[0],
                    (first[0], following[0]),
                    (filled[m], filled[later]),
                ),
            )
            for source, buffer, done in zip(sources, buffers, arrived, strict=True)
        ]

        @pl.when((m == 0) | (expert[m] != expert[jnp.maximum(m - 1, 0)]))
        def _() -> None:
            total[...] = jnp.zeros_like(total)

        def chunk(number: jax.Array, size: int) -> None:
            at = rows_at(number, size)
            row = lax.broadcasted_iota(jnp.int32, (size, 1), 0) + number * CHUNK_ROWS
            own = row < filled[m]
            numbers = tuple(
                to_column(ref[0, pl.ds(number, 1), :size]) for ref in number_refs
            )
            rows = tuple(from_words(buffer[slot, at, :]) for buffer, slot in copied)
            lefts = (*rows[: len(left_tokens)], *read(left_refs, at))
            rights = (*rows[len(left_tokens) :], *read(right_refs, at))
            a = jnp.where(own, left(lefts, numbers), 0)
            b = jnp.where(own, right(rights, numbers), 0)
            total[...] += lax.dot_general(
                a.astype(COMPUTE_DTYPE),
                b.astype(COMPUTE_DTYPE),
                (((0,), (0,)), ((), ())),
                precision=precision(COMPUTE_DTYPE),
                preferred_element_type=jnp.float32,
            )

        for_chunks(filled[m], chunk)

        @pl.when((m == tiles[0] - 1) | (expert[m] != expert[m + 1]))
        def _() -> None:
            out[0] = total[...].astype(out.dtype)

    operands = sum_operands(plan, summed)
    made: jax.Array = pl.pallas_call(
        kernel,
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=4,
            grid=(
                pl.cdiv(widths[0], blocks[0]),
                pl.cdiv(widths[1], blocks[1]),
                plan.all_tiles[0],
            ),
            in_specs=sum_blocks(summed, blocks),
            out_specs=pl.BlockSpec(
                (1, *blocks), lambda i, j, m, e, t, f, n: (e[m], i, j)
            ),
            scratch_shapes=[
                pltpu.VMEM(blocks, jnp.float32),
                *(
                    pltpu.VMEM((2, TILE_ROWS, t.shape[1]), t.dtype)
                    for t in (*summed.left_tokens, *summed.right_tokens)
                ),
                *(pltpu.SemaphoreType.DMA((2,)) for _ in range(fetching)),
            ],
        ),
        out_shape=result_type((EXPERTS, *widths), dtype, *operands),
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "parallel", "arbitrary"),
            vmem_limit_bytes=VMEM_LIMIT,
            disable_bounds_checks=True,  # checks cost as much as the copies
        ),
        interpret=INTERPRET,
        name="grouped_sums",
    )(
        jnp.append(plan.all_expert, -1),
        plan.all_tile,
        plan.all_rows,
        plan.all_tiles,
        *operands,
    )
    return made


def sum_blocks(summed: Summed, blocks: tuple[int, int]) -> list[pl.BlockSpec]:
    """How each operand is cut; rows and numbers follow the tile."""

    def side(axis: int) -> pl.BlockSpec:
        shape = (TILE_ROWS, blocks[axis])
        return pl.BlockSpec(shape, lambda i, j, m, e, t, f, n: (t[m], (i, j)[axis]))

    def tokens(step: int) -> pl.BlockSpec:
        return pl.BlockSpec(
            (1, 1, TILE_ROWS),
            lambda i, j, m, e, t, f, n: (
                t[jnp.minimum(m + 1, n[0] - 1) if step else 0],
                0,
                0,
            ),
            memory_space=pltpu.SMEM,
        )

    lines = (1, TILE_ROWS // CHUNK_ROWS, CHUNK_ROWS)
    number = pl.BlockSpec(lines, lambda i, j, m, e, t, f, n: (t[m], 0, 0))
    anywhere = pl.BlockSpec(memory_space=pl.ANY)
    fetching = summed.left_tokens or summed.right_tokens
    return [
        *((tokens(0), tokens(1)) if fetching else ()),
        *(anywhere for _ in summed.left_tokens),
        *(side(0) for _ in summed.left),
        *(anywhere for _ in summed.right_tokens),
        *(side(1) for _ in summed.right),
        *(number for _ in summed.numbers),
    ]


def sum_operands(plan: RowPlan, summed: Summed) -> Arrays:
    """The kernel's operands in order."""
    tokens = (plan.flat // CHOICES).reshape(-1, 1, TILE_ROWS)
    fetching = summed.left_tokens or summed.right_tokens
    return (
        *((tokens, tokens) if fetching else ()),
        *summed.left_tokens,
        *summed.left,
        *summed.right_tokens,
        *summed.right,
        *(in_lines(numbers, TILE_ROWS) for numbers in summed.numbers),
    )
