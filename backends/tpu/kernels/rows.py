"""Rows by their experts' matrices: the grouped matmul whose results are rows.

A piece of an expert's chain: the prologue makes the left operands from fetched rows,
the products add up over blocks of the inner width, the epilogue makes the results from
the sums. The grid is (blocks of columns, tiles of rows, blocks of the inner width);
only the tiles that have rows are run.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from backends.tpu.kernels.row_plan import TILE_ROWS, RowPlan

VMEM_LIMIT = 16 * 2**20  # bytes that a kernel may take
INTERPRET = False  # run as plain XLA code, on any machine

Arrays = tuple[jax.Array, ...]
# (blocks of inner rows, numbers per row) -> a left operand for each product.
Prologue = Callable[[Arrays, Arrays], Arrays]
# (sums, blocks of rows, numbers per row, biases) -> results.
Epilogue = Callable[[Arrays, Arrays, Arrays, Arrays], Arrays]


class Fetched(NamedTuple):
    """What a piece reads."""

    inner: Arrays  # row spaces [PLACES, A], for the prologue
    columns: Arrays  # row spaces [PLACES, B], for the epilogue
    numbers: Arrays  # row spaces [PLACES, 1], for both
    weights: Arrays  # [E, A, B], or transposed, one for each product
    biases: Arrays  # [E, B]


def grouped_rows(
    prologue: Prologue,
    epilogue: Epilogue,
    plan: RowPlan,
    fetched: Fetched,
    transposed: tuple[bool, ...],
    results: tuple[tuple[int, Any], ...],
    blocks: tuple[int, int],
) -> Arrays:
    """Row spaces [PLACES, width], one for each (width, dtype) of `results`.

    A width is B, or 1 for sums over the columns, which are added up over the blocks.
    What lies beyond the kept rows is undefined. `transposed` says which weights are
    [E, B, A]; `blocks` are the sizes that A and B are cut in, whole numbers of times.
    """
    tile_inner, tile_columns = blocks
    axes = (2, 1) if transposed[0] else (1, 2)
    depth, width = (fetched.weights[0].shape[axis] for axis in axes)
    grid = width // tile_columns, jnp.maximum(plan.tiles[0], 1), depth // tile_inner

    def kernel(tile_expert: Any, *refs: Any) -> None:
        counts = (*map(len, fetched), len(results), len(transposed))
        inner, columns, numbers, weights, biases, outs, sums = grouped_refs(
            refs, counts
        )

        @pl.when(pl.program_id(2) == 0)
        def _() -> None:
            for total in sums:
                total[...] = jnp.zeros_like(total)

        lefts = prologue(read(inner), read(numbers))
        products = zip(lefts, weights, transposed, sums, strict=True)
        for left, weight, turned, total in products:
            total[...] += block_product(left, weight[0], turned)

        @pl.when(pl.program_id(2) == pl.num_programs(2) - 1)
        def _() -> None:
            own = tuple(bias[0] for bias in biases)
            made = epilogue(read(sums), read(columns), read(numbers), own)
            for out, result in zip(outs, made, strict=True):
                out[...] = result.astype(out.dtype).reshape(out.shape)

    made = pl.pallas_call(
        kernel,
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=1,
            grid=grid,
            in_specs=in_blocks(fetched, transposed, tile_inner, tile_columns),
            out_specs=[out_block(width, tile_columns) for width, _ in results],
            scratch_shapes=[
                pltpu.VMEM((TILE_ROWS, tile_columns), jnp.float32) for _ in transposed
            ],
        ),
        out_shape=[
            jax.ShapeDtypeStruct(out_shape(plan, width, grid[0]), dtype)
            for width, dtype in results
        ],
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "arbitrary", "arbitrary"),
            vmem_limit_bytes=VMEM_LIMIT,
        ),
        interpret=INTERPRET,
        name="grouped_rows",
    )(plan.tile_expert, *flattened(fetched))
    return tuple(jnp.sum(m, axis=0) if m.ndim == 3 else m for m in made)


def block_product(left: jax.Array, weight: jax.Array, turned: bool) -> jax.Array:
    """float32 [TILE_ROWS, columns]: a block of rows by a block of weights."""
    return lax.dot_general(
        left.astype(weight.dtype),
        weight,
        (((1,), (1 if turned else 0,)), ((), ())),
        precision=precision(weight.dtype),
        preferred_element_type=jnp.float32,
    )


def precision(dtype: Any) -> lax.Precision | None:
    """A TPU multiplies float32 as bfloat16 unless it is told not to."""
    return lax.Precision.HIGHEST if dtype == jnp.float32 else None


def in_blocks(
    fetched: Fetched, transposed: tuple[bool, ...], tile_inner: int, tile_columns: int
) -> list[pl.BlockSpec]:
    """How each operand is cut; weights and biases follow the tile's expert."""

    def weight(turned: bool) -> pl.BlockSpec:
        if turned:
            shape = (1, tile_columns, tile_inner)
            return pl.BlockSpec(shape, lambda n, m, k, e: (e[m], n, k))
        shape = (1, tile_inner, tile_columns)
        return pl.BlockSpec(shape, lambda n, m, k, e: (e[m], k, n))

    inner = pl.BlockSpec((TILE_ROWS, tile_inner), lambda n, m, k, e: (m, k))
    columns = pl.BlockSpec((TILE_ROWS, tile_columns), lambda n, m, k, e: (m, n))
    number = pl.BlockSpec((TILE_ROWS, 1), lambda n, m, k, e: (m, 0))
    bias = pl.BlockSpec((1, 1, tile_columns), lambda n, m, k, e: (e[m], 0, n))
    return [
        *(inner for _ in fetched.inner),
        *(columns for _ in fetched.columns),
        *(number for _ in fetched.numbers),
        *(weight(turned) for turned in transposed),
        *(bias for _ in fetched.biases),
    ]


def out_block(width: int, tile_columns: int) -> pl.BlockSpec:
    """Blocks of a result; sums over columns have a slice for each block of columns."""
    if width == 1:
        return pl.BlockSpec((1, TILE_ROWS, 1), lambda n, m, k, e: (n, m, 0))
    return pl.BlockSpec((TILE_ROWS, tile_columns), lambda n, m, k, e: (m, n))


def out_shape(plan: RowPlan, width: int, column_blocks: int) -> tuple[int, ...]:
    places = plan.flat.size
    return (column_blocks, places, 1) if width == 1 else (places, width)


def flattened(fetched: Fetched) -> Arrays:
    """The kernel's operands in order; a bias [E, B] as [E, 1, B]."""
    biases = (bias[:, None, :] for bias in fetched.biases)
    return (*(a for group in fetched[:-1] for a in group), *biases)


def grouped_refs(refs: Any, counts: tuple[int, ...]) -> list[Any]:
    """Consecutive groups of so many references."""
    starts = [sum(counts[:i]) for i in range(len(counts))]
    return [refs[s : s + c] for s, c in zip(starts, counts, strict=True)]


def read(refs: Any) -> Arrays:
    return tuple(ref[...] for ref in refs)
