"""Gradients of weights: for each expert the sum over its rows of a^T b.

The grid is (blocks of A, blocks of B, tiles of rows). An expert's tiles follow one
another, so its sum stays on the chip until it is whole. An expert without rows has one
empty tile, and gets zeros.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from backends.tpu.kernels.row_plan import EXPERTS, TILE_ROWS, RowPlan
from backends.tpu.kernels.rows import (
    INTERPRET,
    VMEM_LIMIT,
    grouped_refs,
    precision,
    read,
)

COMPUTE_DTYPE = jnp.bfloat16  # what the operands are rounded to

Arrays = tuple[jax.Array, ...]
# (blocks of rows, numbers per row) -> one operand [TILE_ROWS, width of a block].
Side = Callable[[Arrays, Arrays], jax.Array]


def grouped_sums(
    left: Side,
    right: Side,
    plan: RowPlan,
    rows: tuple[Arrays, Arrays],
    numbers: Arrays,
    widths: tuple[int, int],
    dtype: Any,
    blocks: tuple[int, int],
) -> jax.Array:
    """[E, A, B] of `dtype`: sums over each expert's rows of left^T right, in float32.

    `rows` are the row spaces of the left operand, [PLACES, A], and of the right one,
    [PLACES, B]; `numbers` [PLACES, 1] are for both; `widths` are A and B, and `blocks`
    the sizes that they are cut in, whole numbers of times.
    """
    counts = (len(rows[0]), len(rows[1]), len(numbers), 1, 1)

    def kernel(expert: Any, tile: Any, filled: Any, tiles: Any, *refs: Any) -> None:
        left_refs, right_refs, number_refs, (out,), (total,) = grouped_refs(
            refs, counts
        )
        m = pl.program_id(2)

        @pl.when((m == 0) | (expert[m] != expert[jnp.maximum(m - 1, 0)]))
        def _() -> None:
            total[...] = jnp.zeros_like(total)

        @pl.when(filled[m] > 0)
        def _() -> None:
            row = lax.broadcasted_iota(jnp.int32, (TILE_ROWS, 1), 0)
            own, per_row = row < filled[m], read(number_refs)
            a = jnp.where(own, left(read(left_refs), per_row), 0)
            b = jnp.where(own, right(read(right_refs), per_row), 0)
            total[...] += lax.dot_general(
                a.astype(COMPUTE_DTYPE),
                b.astype(COMPUTE_DTYPE),
                (((0,), (0,)), ((), ())),
                precision=precision(COMPUTE_DTYPE),
                preferred_element_type=jnp.float32,
            )

        @pl.when((m == tiles[0] - 1) | (expert[m] != expert[m + 1]))
        def _() -> None:
            out[0] = total[...].astype(out.dtype)

    def side(axis: int) -> pl.BlockSpec:
        shape = (TILE_ROWS, blocks[axis])
        return pl.BlockSpec(shape, lambda i, j, m, e, t, f, n: (t[m], (i, j)[axis]))

    number = pl.BlockSpec((TILE_ROWS, 1), lambda i, j, m, e, t, f, n: (t[m], 0))
    made: jax.Array = pl.pallas_call(
        kernel,
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=4,
            grid=(widths[0] // blocks[0], widths[1] // blocks[1], plan.all_tiles[0]),
            in_specs=[
                *(side(0) for _ in rows[0]),
                *(side(1) for _ in rows[1]),
                *(number for _ in numbers),
            ],
            out_specs=pl.BlockSpec(
                (1, *blocks), lambda i, j, m, e, t, f, n: (e[m], i, j)
            ),
            scratch_shapes=[pltpu.VMEM(blocks, jnp.float32)],
        ),
        out_shape=jax.ShapeDtypeStruct((EXPERTS, *widths), dtype),
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "parallel", "arbitrary"),
            vmem_limit_bytes=VMEM_LIMIT,
        ),
        interpret=INTERPRET,
        name="grouped_sums",
    )(
        jnp.append(plan.all_expert, -1),
        plan.all_tile,
        plan.all_rows,
        plan.all_tiles,
        *rows[0],
        *rows[1],
        *numbers,
    )
    return made
