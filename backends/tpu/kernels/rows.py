"""Rows by their experts' matrices: the grouped matmul whose results are rows.

A piece of an expert's chain: the prologue makes the left operands from fetched rows,
the products add up over blocks of the inner width, the epilogue makes the results from
the sums. The grid is (cores, blocks of columns, tiles of rows, blocks of the inner
width); only the tiles that have rows are run, and of those only the rows. An expert's
weights stay on the chip for all of its tiles; or, with the tiles before the blocks of
columns, a tile's rows stay for all of its weights. Where the inner width is cut, rows
of results leave by copies of their own while the next block is added up.
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
    for_chunks,
    line_dtype,
    read_numbers,
    rows_at,
    to_line,
)
from backends.tpu.kernels.copies import fetch_ahead
from backends.tpu.kernels.result_type import result_type
from backends.tpu.kernels.row_blocks import (
    COMPUTE_DTYPE,
    CORES,
    NARROW,
    Arrays,
    Fetched,
    as_it_is,
    flattened,
    in_blocks,
    leaving_buffers,
    out_block,
    out_shape,
    scratch,
    tile_of,
    tiles_first,
)
from backends.tpu.kernels.row_plan import RowPlan
from backends.tpu.kernels.words import from_words, pack

VMEM_LIMIT = 16 * 2**20  # bytes that a kernel may take
INTERPRET = False  # run as plain XLA code, on any machine
LANES = 128
BYTE_LINES = 32  # lines of bytes that share a tile of memory

# What a layer puts into a kernel; numbers per row are [rows, 1], such as gates.
# (blocks of inner rows, numbers per row) -> a left operand for each product.
Prologue = Callable[[Arrays, Arrays], Arrays]
# (sums of products, blocks of rows, numbers per row, biases) -> results [rows, columns
# of a block]; for a result of width 1, which is a sum over columns, what is added up.
Epilogue = Callable[[Arrays, Arrays, Arrays, Arrays], Arrays]


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
    leaving: Any  # [TILE_ROWS, columns], results that leave by a copy
    left_chip: Any  # their semaphores
    wide: Any  # blocks of weights in COMPUTE_DTYPE, where those are narrower
    buffers: Any  # [2, TILE_ROWS, W], one for each of `tokens`
    arrived: Any  # their semaphores


def rows_as_read(inner: Arrays, numbers: Arrays) -> Arrays:
    """The prologue of left operands that are the rows themselves."""
    return inner


def sums_as_made(
    sums: Arrays, columns: Arrays, numbers: Arrays, biases: Arrays
) -> Arrays:
    """The epilogue of results that are the sums themselves."""
    return sums


def grouped_rows(
    plan: RowPlan,
    fetched: Fetched,
    transposed: tuple[bool, ...],
    results: tuple[tuple[int, Any], ...],
    blocks: tuple[int, int],
    prologue: Prologue = rows_as_read,
    epilogue: Epilogue = sums_as_made,
    rows_stay: bool = False,
    adds: bool = False,
) -> Arrays:
    """Row spaces [PLACES, width], one for each (width, dtype) of `results`.

    A width is B, or 1 for sums over the columns, which are added up over the blocks.
    Results of dtype uint32 are words of bfloat16, [PLACES, B / 2]. What lies beyond
    the kept rows is undefined. `transposed` says which weights are [E, B, A]; `blocks`
    are the sizes that A and B are cut in: A in whole blocks, and not at all with
    `tokens`. The last block of B may hold columns beyond B, which nothing reads.
    With `rows_stay` tiles come before blocks of columns. With `adds` the products are
    added, and the epilogue has one sum.
    """
    tile_inner, tile_columns = blocks
    axes = (2, 1) if transposed[0] else (1, 2)
    depth, width = (fetched.weights[0].shape[axis] for axis in axes)
    whole = tile_inner == depth
    columns = pl.cdiv(width, tile_columns)
    per_core = pl.cdiv(jnp.maximum(plan.tiles[0], 1), CORES)
    between = (per_core, columns) if rows_stay else (columns, per_core)
    grid = CORES, *between, depth // tile_inner
    order = tiles_first if rows_stay else as_it_is
    leaves = not whole and width % tile_columns == 0 and tile_columns % LANES == 0
    leaving = leaving_buffers(results, tile_columns) if leaves else []
    sums = 0 if whole else 1 if adds else len(transposed)
    fetching = len(fetched.tokens)
    counts = (
        *(min(fetching, 1),) * 2,
        *map(len, fetched),
        len(results),
        sums,
        *(len(leaving), min(len(leaving), 1)),
        len(transposed) if NARROW == "by block" else 0,
        *(fetching,) * 2,
    )

    def kernel(expert: Any, filled: Any, told: Any, *flat_refs: Any) -> None:
        refs = Refs(*grouped_refs(flat_refs, counts))
        n, m, k = pl.program_id(1), pl.program_id(2), pl.program_id(3)
        if rows_stay:
            n, m = m, n
        tile = tile_of(pl.program_id(0), m, told)
        later = tile_of(pl.program_id(0), m + 1, told)
        slot = lax.rem(m, 2)

        def fetch() -> None:
            held = zip(refs.tokens, refs.buffers, refs.arrived, strict=True)
            for source, buffers, arrived in held:
                index, rows = (
                    (*refs.first, *refs.following),
                    (filled[tile], filled[later]),
                )
                fetch_ahead(source, buffers, arrived, m, told[1], index, rows)

        if rows_stay:
            pl.when(n == 0)(fetch)
        else:
            fetch()

        last = k == pl.num_programs(3) - 1
        copies = ResultCopies(results, refs) if leaving else None
        if copies:
            pl.when(last & copies.any_before())(copies.wait)

        matrices = refs.weights
        if NARROW == "by block":
            matrices = refs.wide
            before = expert[jnp.maximum(tile - 1, 0)]
            moved = rows_stay or not whole
            pl.when((m == 0) | (expert[tile] != before) | moved)(
                partial(widen, refs.weights, refs.wide)
            )

        def chunk(number: jax.Array, size: int) -> None:
            at = rows_at(number, size)
            numbers = read_numbers(refs.numbers, fetched.numbers, number, size)
            copied = tuple(from_words(held[slot, at, :]) for held in refs.buffers)
            lefts = prologue((*copied, *read(refs.inner, at)), numbers)
            products = tuple(
                block_product(left, weight[0], turned)
                for left, weight, turned in zip(
                    lefts, matrices, transposed, strict=True
                )
            )
            if adds:
                products = (sum(products[1:], products[0]),)
            if whole:
                finish(products, number, size, numbers)
                return
            for total, product in zip(refs.sums, products, strict=True):
                total[at, :] = jnp.where(k == 0, 0, total[at, :]) + product

            @pl.when(last)
            def _() -> None:
                finish(read(refs.sums, at), number, size, numbers)

        def finish(
            totals: Arrays, number: jax.Array, size: int, numbers: Arrays
        ) -> None:
            at = rows_at(number, size)
            own = tuple(bias[0] for bias in refs.biases)
            made = epilogue(totals, read(refs.columns, at), numbers, own)
            left = width - n * tile_columns if width % tile_columns else None
            outs = copies.buffers if copies else refs.results
            for out, result in zip(outs, made, strict=True):
                store(out, result, number, at, left)

        for_chunks(filled[tile], chunk)
        if copies:
            pl.when(last)(partial(copies.start, tile, n))
            pl.when(last & copies.no_more())(copies.wait)

    operands = flattened(plan, fetched)
    made = pl.pallas_call(
        kernel,
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=3,
            grid=grid,
            in_specs=[
                order(block)
                for block in in_blocks(fetched, transposed, tile_inner, tile_columns)
            ],
            out_specs=[
                order(out_block(*result, tile_columns, leaves)) for result in results
            ],
            scratch_shapes=scratch(fetched, transposed, sums, blocks, leaving),
        ),
        out_shape=[
            result_type(out_shape(plan, *result, columns), result[1], *operands)
            for result in lines_of(results)
        ],
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", *("arbitrary",) * 3),
            vmem_limit_bytes=VMEM_LIMIT,
            disable_bounds_checks=True,  # checks cost as much as the copies
        ),
        interpret=INTERPRET,
        name="grouped_rows",
    )(plan.tile_expert, plan.filled, jnp.stack([plan.tiles[0], per_core]), *operands)
    return tuple(
        jnp.sum(held, axis=0).reshape(-1, 1).astype(dtype) if width == 1 else held
        for held, (width, dtype) in zip(made, results, strict=True)
    )


def lines_of(results: tuple[tuple[int, Any], ...]) -> list[tuple[int, Any]]:
    """The results as the kernel writes them: one number a row lies in lines."""
    return [(w, line_dtype(dtype) if w == 1 else dtype) for w, dtype in results]


class ResultCopies:
    """Results of whole rows, that leave the chip while the next block is added up."""

    def __init__(self, results: tuple[tuple[int, Any], ...], refs: Refs) -> None:
        held = iter(refs.leaving)
        wide = [width > 1 for width, _ in results]
        self.buffers = [
            next(held) if is_wide else out
            for is_wide, out in zip(wide, refs.results, strict=True)
        ]
        self.pairs = [
            (buffer, out)
            for is_wide, buffer, out in zip(
                wide, self.buffers, refs.results, strict=True
            )
            if is_wide
        ]
        (self.left_chip,) = refs.left_chip

    def any_before(self) -> jax.Array:
        return pl.program_id(1) + pl.program_id(2) > 0

    def no_more(self) -> jax.Array:
        ends = (pl.program_id(axis) == pl.num_programs(axis) - 1 for axis in (1, 2))
        return next(ends) & next(ends)

    def start(self, tile: jax.Array, n: jax.Array) -> None:
        """Start copying the n-th block of a tile's results."""
        for number, (buffer, out) in enumerate(self.pairs):
            rows, columns = buffer.shape
            at = pl.ds(tile * rows, rows), pl.ds(n * columns, columns)
            done = self.left_chip.at[number]
            pltpu.make_async_copy(buffer, out.at[at], done).start()

    def wait(self) -> None:
        for number, (buffer, _) in enumerate(self.pairs):
            done = self.left_chip.at[number]
            pltpu.make_async_copy(buffer, buffer, done).wait()


def block_product(left: jax.Array, weight: jax.Array, turned: bool) -> jax.Array:
    """float32 [rows, columns]: a block of rows by a block of weights."""
    dtype: Any = weight.dtype
    if NARROW:
        dtype = COMPUTE_DTYPE
    if NARROW == "by chunk":
        weight = weight.astype(dtype)
    left = left.astype(dtype)
    if 1 in weight.shape:  # lowered as a vector's, of float32 alone
        left, weight, dtype = *(a.astype(jnp.float32) for a in (left, weight)), None
    return lax.dot_general(
        left,
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
        total = jnp.sum(kept.astype(out.dtype), axis=1, keepdims=True)
        out[0, 0, pl.ds(number, 1), : result.shape[0]] = to_line(total)
    elif out.dtype == jnp.uint32:
        out[at, :] = pack(result)
    else:
        out[at, :] = result.astype(out.dtype)


def grouped_refs(refs: Any, counts: tuple[int, ...]) -> list[Any]:
    """Consecutive groups of so many references."""
    starts = [sum(counts[:i]) for i in range(len(counts))]
    return [refs[s : s + c] for s, c in zip(starts, counts, strict=True)]


def read(refs: Any, at: pl.Slice) -> Arrays:
    return tuple(ref[at, :] for ref in refs)
