"""Rows by their experts' matrices: the grouped matmul whose results are rows.

A piece of an expert's chain: the prologue makes the left operands from fetched rows,
the products add up over blocks of the inner width, the epilogue makes the results from
the sums. The grid is (cores, blocks of columns, tiles of rows, blocks of the inner
width); only the tiles that have rows are run, and of those only the rows.
"""

from collections.abc import Callable
from functools import partial
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
    to_line,
)
from backends.tpu.kernels.copies import fetch_ahead
from backends.tpu.kernels.result_type import result_type
from backends.tpu.kernels.row_plan import CHOICES, TILE_ROWS, RowPlan
from backends.tpu.kernels.words import from_words, pack

VMEM_LIMIT = 16 * 2**20  # bytes that a kernel may take
INTERPRET = False  # run as plain XLA code, on any machine
COMPUTE_DTYPE = jnp.bfloat16  # what operands of products are rounded to
# How matrices of one byte an element are multiplied: "" for others; "direct", as they
# are; converted "by chunk", in every product; "by block", once, in memory of their own.
NARROW = ""
BYTE_LINES = 32  # lines of bytes that share a tile of memory
CORES = 1  # TensorCores that share a device; each takes a share of the tiles

Arrays = tuple[jax.Array, ...]
# (blocks of inner rows, numbers per row) -> a left operand for each product.
Prologue = Callable[[Arrays, Arrays], Arrays]
# (sums, blocks of rows, numbers per row, biases) -> results; of sums over columns what
# is to be added.
Epilogue = Callable[[Arrays, Arrays, Arrays, Arrays], Arrays]


class Fetched(NamedTuple):
    """What a piece reads."""

    tokens: Arrays  # [T, A] as words: the kernel fetches rows of it, for the prologue
    inner: Arrays  # row spaces [PLACES, A], for the prologue
    columns: Arrays  # row spaces [PLACES, B], for the epilogue
    numbers: Arrays  # row spaces [PLACES, 1], for both
    weights: Arrays  # [E, A, B], or transposed, one for each product
    biases: Arrays  # [E, B]


class Refs(NamedTuple):
    """The kernel's references, group by group."""

    first: Any  # tokens of the core's first tile, int32[1, 1, TILE_ROWS]
    following: Any  # tokens of the next tile
    tokens: Any
    inner: Any
    columns: Any
    numbers: Any
    weights: Any
    biases: Any
    results: Any
    sums: Any  # float32 [TILE_ROWS, columns], where the inner width is cut
    wide: Any  # blocks of weights in COMPUTE_DTYPE, where those are narrower
    buffers: Any  # [2, TILE_ROWS, W], one for each of `tokens`
    arrived: Any  # their semaphores


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
    Results of dtype uint32 are words of bfloat16, [PLACES, B / 2]. What lies beyond
    the kept rows is undefined. `transposed` says which weights are [E, B, A]; `blocks`
    are the sizes that A and B are cut in: A in whole blocks, and not at all with
    `tokens`. The last block of B may hold columns beyond B, which nothing reads.
    """
    tile_inner, tile_columns = blocks
    axes = (2, 1) if transposed[0] else (1, 2)
    depth, width = (fetched.weights[0].shape[axis] for axis in axes)
    whole = tile_inner == depth
    per_core = pl.cdiv(jnp.maximum(plan.tiles[0], 1), CORES)
    grid = CORES, pl.cdiv(width, tile_columns), per_core, depth // tile_inner
    fetching = len(fetched.tokens)
    counts = (
        *(min(fetching, 1),) * 2,
        *map(len, fetched),
        len(results),
        0 if whole else len(transposed),
        len(transposed) if NARROW == "by block" else 0,
        *(fetching,) * 2,
    )

    def kernel(expert: Any, filled: Any, told: Any, *flat_refs: Any) -> None:
        refs = Refs(*grouped_refs(flat_refs, counts))
        n, m, k = pl.program_id(1), pl.program_id(2), pl.program_id(3)
        tile = tile_of(pl.program_id(0), m, told)
        later = tile_of(pl.program_id(0), m + 1, told)
        slots = [
            fetch_ahead(
                source,
                buffers,
                arrived,
                m,
                told[1],
                (refs.first[0], refs.following[0]),
                (filled[tile], filled[later]),
            )
            for source, buffers, arrived in zip(
                refs.tokens, refs.buffers, refs.arrived, strict=True
            )
        ]

        matrices = refs.weights
        if NARROW == "by block":
            matrices = refs.wide
            before = expert[jnp.maximum(tile - 1, 0)]
            pl.when((m == 0) | (expert[tile] != before) | (not whole))(
                partial(widen, refs.weights, refs.wide)
            )

        def chunk(number: jax.Array, size: int) -> None:
            at = rows_at(number, size)
            numbers = tuple(
                to_column(ref[0, pl.ds(number, 1), :size]) for ref in refs.numbers
            )
            held = zip(refs.buffers, slots, strict=True)
            copied = tuple(from_words(buffer[slot, at, :]) for buffer, slot in held)
            lefts = prologue((*copied, *read(refs.inner, at)), numbers)
            products = tuple(
                block_product(left, weight[0], turned)
                for left, weight, turned in zip(
                    lefts, matrices, transposed, strict=True
                )
            )
            if whole:
                finish(products, number, size, numbers)
                return
            for total, product in zip(refs.sums, products, strict=True):
                total[at, :] = jnp.where(k == 0, 0, total[at, :]) + product

            @pl.when(k == pl.num_programs(3) - 1)
            def _() -> None:
                finish(read(refs.sums, at), number, size, numbers)

        def finish(sums: Arrays, number: jax.Array, size: int, numbers: Arrays) -> None:
            at = rows_at(number, size)
            own = tuple(bias[0] for bias in refs.biases)
            made = epilogue(sums, read(refs.columns, at), numbers, own)
            left = width - n * tile_columns if width % tile_columns else None
            for out, result in zip(refs.results, made, strict=True):
                store(out, result, number, at, left)

        for_chunks(filled[tile], chunk)

    operands = flattened(plan, fetched)
    made = pl.pallas_call(
        kernel,
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=3,
            grid=grid,
            in_specs=in_blocks(fetched, transposed, tile_inner, tile_columns),
            out_specs=[out_block(*result, tile_columns) for result in results],
            scratch_shapes=scratch(fetched, transposed, whole, blocks),
        ),
        out_shape=[
            result_type(out_shape(plan, *result, grid[1]), result[1], *operands)
            for result in results
        ],
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=(
                "parallel",
                "arbitrary" if CORES > 1 else "parallel",
                "arbitrary",
                "arbitrary",
            ),
            vmem_limit_bytes=VMEM_LIMIT,
            disable_bounds_checks=True,  # checks cost as much as the copies
        ),
        interpret=INTERPRET,
        name="grouped_rows",
    )(plan.tile_expert, plan.filled, jnp.stack([plan.tiles[0], per_core]), *operands)
    return tuple(jnp.sum(m, axis=0).reshape(-1, 1) if m.ndim == 4 else m for m in made)


def tile_of(core: jax.Array, m: jax.Array, told: Any) -> jax.Array:
    """The m-th tile of a core; the last one again where there are no more.

    `told` are the number of tiles and how many of them a core takes.
    """
    return jnp.minimum(core * told[1] + m, jnp.maximum(told[0] - 1, 0))


def block_product(left: jax.Array, weight: jax.Array, turned: bool) -> jax.Array:
    """float32 [rows, columns]: a block of rows by a block of weights."""
    dtype: Any = weight.dtype
    if NARROW:
        dtype = COMPUTE_DTYPE
    if NARROW == "by chunk":
        weight = weight.astype(dtype)
    return lax.dot_general(
        left.astype(dtype),
        weight,
        (((1,), (1 if turned else 0,)), ((), ())),
        precision=precision(dtype),
        preferred_element_type=jnp.float32,
    )


def widen(weights: Any, wide: Any) -> None:
    """Convert the blocks of weights that just came, a few lines at a time."""
    for narrow, out in zip(weights, wide, strict=True):
        lines = narrow.shape[1]
        step = BYTE_LINES if lines % BYTE_LINES == 0 else lines
        lax.fori_loop(0, lines // step, partial(widen_lines, narrow, out, step), None)


def widen_lines(narrow: Any, out: Any, step: int, number: jax.Array, _: None) -> None:
    at = pl.ds(pl.multiple_of(number * step, step), step)
    out[0, at, :] = narrow[0, at, :].astype(out.dtype)


def precision(dtype: Any) -> lax.Precision | None:
    """A TPU multiplies float32 as bfloat16 unless it is told not to."""
    return lax.Precision.HIGHEST if dtype == jnp.float32 else None


def store(
    out: Any, result: jax.Array, number: jax.Array, at: pl.Slice, left: Any
) -> None:
    """Write a chunk of a result: a line of sums, words, or rows.

    `left` is how many columns are left for this block, or None for all of it.
    """
    if len(out.shape) == 4:
        column = lax.broadcasted_iota(jnp.int32, result.shape, 1)
        kept = result if left is None else jnp.where(column < left, result, 0)
        total = jnp.sum(kept, axis=1, keepdims=True)
        out[0, 0, pl.ds(number, 1), : result.shape[0]] = to_line(total)
    elif out.dtype == jnp.uint32:
        out[at, :] = pack(result)
    else:
        out[at, :] = result.astype(out.dtype)


def in_blocks(
    fetched: Fetched, transposed: tuple[bool, ...], tile_inner: int, tile_columns: int
) -> list[pl.BlockSpec]:
    """How each operand is cut; weights and biases follow the tile's expert."""

    def weight(turned: bool) -> pl.BlockSpec:
        if turned:
            shape = (1, tile_columns, tile_inner)
            return spec(shape, lambda n, t, k, e: (e[t], n, k))
        shape = (1, tile_inner, tile_columns)
        return spec(shape, lambda n, t, k, e: (e[t], k, n))

    inner = spec((TILE_ROWS, tile_inner), lambda n, t, k, e: (t, k))
    columns = spec((TILE_ROWS, tile_columns), lambda n, t, k, e: (t, n))
    lines = (1, TILE_ROWS // CHUNK_ROWS, CHUNK_ROWS)
    number = spec(lines, lambda n, t, k, e: (t, 0, 0))
    bias = spec((1, 1, tile_columns), lambda n, t, k, e: (e[t], 0, n))
    return [
        *(token_blocks() if fetched.tokens else ()),
        *(pl.BlockSpec(memory_space=pl.ANY) for _ in fetched.tokens),
        *(inner for _ in fetched.inner),
        *(columns for _ in fetched.columns),
        *(number for _ in fetched.numbers),
        *(weight(turned) for turned in transposed),
        *(bias for _ in fetched.biases),
    ]


def spec(shape: tuple[int, ...], index: Callable[..., Any]) -> pl.BlockSpec:
    """A block by (block of columns, tile, block of the inner width, experts)."""
    return pl.BlockSpec(
        shape, lambda h, n, m, k, e, f, told: index(n, tile_of(h, m, told), k, e)
    )


def token_blocks() -> tuple[pl.BlockSpec, pl.BlockSpec]:
    """Tokens of the core's first tile, and of the tile after this one."""
    shape = (1, 1, TILE_ROWS)

    def at(step: Callable[[Any], Any]) -> pl.BlockSpec:
        return pl.BlockSpec(
            shape,
            lambda h, n, m, k, e, f, told: (tile_of(h, step(m), told), 0, 0),
            memory_space=pltpu.SMEM,
        )

    return at(lambda m: 0), at(lambda m: m + 1)


def out_block(width: int, dtype: Any, tile_columns: int) -> pl.BlockSpec:
    """Blocks of a result; sums over columns have a slice for each block of columns."""
    if width == 1:
        lines = (1, 1, TILE_ROWS // CHUNK_ROWS, CHUNK_ROWS)
        return spec(lines, lambda n, t, k, e: (n, t, 0, 0))
    held = tile_columns // 2 if dtype == jnp.uint32 else tile_columns
    return spec((TILE_ROWS, held), lambda n, t, k, e: (t, n))


def out_shape(plan: RowPlan, width: int, dtype: Any, cuts: int) -> tuple[int, ...]:
    places = plan.flat.size
    if width == 1:
        tiles = places // TILE_ROWS
        return (cuts, tiles, TILE_ROWS // CHUNK_ROWS, CHUNK_ROWS)
    return (places, width // 2 if dtype == jnp.uint32 else width)


def scratch(
    fetched: Fetched, transposed: tuple[bool, ...], whole: bool, blocks: tuple[int, int]
) -> list[Any]:
    """Sums, where the inner width is cut, widened weights, buffers of fetched rows."""
    sums = () if whole else transposed
    wide: tuple[bool, ...] = ()
    if NARROW == "by block":
        wide = transposed
    return [
        *(pltpu.VMEM((TILE_ROWS, blocks[1]), jnp.float32) for _ in sums),
        *(
            pltpu.VMEM((1, *(blocks[::-1] if turned else blocks)), COMPUTE_DTYPE)
            for turned in wide
        ),
        *(pltpu.VMEM((2, TILE_ROWS, t.shape[1]), t.dtype) for t in fetched.tokens),
        *(pltpu.SemaphoreType.DMA((2,)) for _ in fetched.tokens),
    ]


def flattened(plan: RowPlan, fetched: Fetched) -> Arrays:
    """The kernel's operands in order; a bias [E, B] as [E, 1, B]."""
    tokens = (plan.flat // CHOICES).reshape(-1, 1, TILE_ROWS)
    return (
        *((tokens, tokens) if fetched.tokens else ()),
        *fetched.tokens,
        *fetched.inner,
        *fetched.columns,
        *(in_lines(numbers, TILE_ROWS) for numbers in fetched.numbers),
        *fetched.weights,
        *(bias[:, None, :] for bias in fetched.biases),
    )


def grouped_refs(refs: Any, counts: tuple[int, ...]) -> list[Any]:
    """Consecutive groups of so many references."""
    starts = [sum(counts[:i]) for i in range(len(counts))]
    return [refs[s : s + c] for s, c in zip(starts, counts, strict=True)]


def read(refs: Any, at: pl.Slice) -> Arrays:
    return tuple(ref[at, :] for ref in refs)
