"""Gradients of weights: for each expert the sum over its rows of a^T b.

The grid is (blocks of A, blocks of B, windows of rows). An expert's windows follow one
another, so its sum stays on the chip until it is whole: the smaller the windows, the
more room for it. An expert without rows has one empty tile, and gets zeros. A sum
leaves as a copy of its own while the next expert's is being made: one buffer more than
the sum, where a window would be held twice.
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
    read_numbers,
    rows_at,
)
from backends.tpu.kernels.copies import fetch_ahead
from backends.tpu.kernels.result_type import result_type
from backends.tpu.kernels.row_blocks import COMPUTE_DTYPE
from backends.tpu.kernels.row_plan import CHOICES, EXPERTS, TILE_ROWS, RowPlan
from backends.tpu.kernels.rows import (
    INTERPRET,
    VMEM_LIMIT,
    grouped_refs,
    precision,
    read,
)
from backends.tpu.kernels.words import GROUP_WORDS, from_words

Arrays = tuple[jax.Array, ...]
# (blocks of rows, numbers per row) -> one operand [rows, width of a block].
Side = Callable[[Arrays, Arrays], jax.Array]


class Summed(NamedTuple):
    """What the two operands are made of."""

    left_tokens: Arrays = ()  # [T, A] as words: the kernel fetches rows of it
    left: Arrays = ()  # row spaces [PLACES, A]
    right_tokens: Arrays = ()  # [T, B] as words
    right: Arrays = ()  # row spaces [PLACES, B]
    numbers: Arrays = ()  # row spaces [PLACES, 1], for both


class Sides(NamedTuple):
    """How both operands are made, their widths and what these are cut in."""

    left: Side
    right: Side
    widths: tuple[int, int]
    blocks: tuple[int, int]

    @property
    def whole(self) -> bool:
        """Whether whole blocks fill both widths."""
        pairs = zip(self.widths, self.blocks, strict=True)
        return all(width % block == 0 for width, block in pairs)

    def starts(self, place: tuple[Any, Any]) -> tuple[Any, Any]:
        """Where a block begins; a width that is not cut may be of broken lanes."""
        of = zip(place, self.widths, self.blocks, strict=True)
        rows, columns = (0 if width == block else n * block for n, width, block in of)
        return rows, columns


def side_as_read(rows: Arrays, numbers: Arrays) -> jax.Array:
    """The side that is its rows themselves."""
    (operand,) = rows
    return operand


def grouped_sums(
    plan: RowPlan,
    summed: Summed,
    widths: tuple[int, int],
    dtype: Any,
    blocks: tuple[int, int],
    window: int,
    left: Side = side_as_read,
    right: Side = side_as_read,
) -> jax.Array:
    """[E, A, B] of `dtype`: sums over each expert's rows of left^T right, in float32.

    `widths` are A and B, and `blocks` the sizes that they are cut in; a last block may
    hold more, unless that side has tokens. `window` rows of a tile are at hand at once.
    """
    sides = Sides(left, right, widths, blocks)
    fetching = len(summed.left_tokens) + len(summed.right_tokens)
    leaving = [pltpu.VMEM(blocks, dtype), pltpu.SemaphoreType.DMA]
    leaving = leaving if sides.whole else []
    counts = (
        *(min(fetching, 1),) * 2,
        *map(len, summed),
        *(1, 1, fetching, fetching, len(leaving)),
    )

    def kernel(expert: Any, _: Any, filled: Any, steps: Any, *refs: Any) -> None:
        groups = grouped_refs(refs, counts)
        add_window(sides, expert, filled, steps, groups, summed.numbers)

    *scalars, steps = windows(plan, window)
    operands = sum_operands(plan, summed, window)
    out = pl.BlockSpec((1, *blocks), lambda i, j, m, e, t, f, n: (e[m], i, j))
    made: jax.Array = pl.pallas_call(
        kernel,
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=4,
            grid=(
                pl.cdiv(widths[0], blocks[0]),
                pl.cdiv(widths[1], blocks[1]),
                steps[0],
            ),
            in_specs=sum_blocks(summed, blocks, window),
            out_specs=pl.BlockSpec(memory_space=pl.ANY) if sides.whole else out,
            scratch_shapes=[
                pltpu.VMEM(blocks, jnp.float32),
                *token_buffers(summed, widths, blocks, window),
                *(pltpu.SemaphoreType.DMA((2,)) for _ in range(fetching)),
                *leaving,
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
    )(*scalars, steps, *operands)
    return made


def windows(plan: RowPlan, rows: int) -> tuple[jax.Array, ...]:
    """The steps of the sums: expert, window of the row space, rows in it; how many.

    A window without rows is the last one of its tile that has some: none is read.
    """
    parts = TILE_ROWS // rows
    part = lax.iota(jnp.int32, parts)
    filled = jnp.clip(plan.all_rows[:, None] - part * rows, 0, rows)
    last = jnp.maximum(plan.all_rows - 1, 0)[:, None] // rows
    window = plan.all_tile[:, None] * parts + jnp.minimum(part, last)
    expert = jnp.append(jnp.repeat(plan.all_expert, parts), -1)
    return expert, window.reshape(-1), filled.reshape(-1), plan.all_tiles * parts


def add_window(
    sides: Sides, expert: Any, filled: Any, steps: Any, refs: Any, given: Arrays
) -> None:
    """Add a window's rows to the sum of a block, which leaves after its expert's last.

    `refs` are the groups of `sum_operands`, then the result and the buffers; `given`
    are the numbers of rows.
    """
    first, following, *groups, buffers, arrived, leave = refs
    left_tokens, left_refs, right_tokens, right_refs, number_refs, *made = groups
    (out,), (total,) = made
    place, m = (pl.program_id(0), pl.program_id(1)), pl.program_id(2)
    later = jnp.minimum(m + 1, steps[0] - 1)
    sources = [
        part_of(source, place[side], sides.blocks[side], sides.widths[side])
        for side, tokens in enumerate((left_tokens, right_tokens))
        for source in tokens
    ]
    for source, buffer, done in zip(sources, buffers, arrived, strict=True):
        index, rows = (first[0], following[0]), (filled[m], filled[later])
        fetch_ahead(source, buffer, done, m, steps[0], index, rows)
    slot = lax.rem(m, 2)

    @pl.when((m == 0) | (expert[m] != expert[jnp.maximum(m - 1, 0)]))
    def _() -> None:
        total[...] = jnp.zeros_like(total)

    def chunk(number: jax.Array, size: int) -> None:
        at = rows_at(number, size)
        row = lax.broadcasted_iota(jnp.int32, (size, 1), 0) + number * CHUNK_ROWS
        own = row < filled[m]
        numbers = read_numbers(number_refs, given, number, size)
        rows = tuple(from_words(buffer[slot, at, :]) for buffer in buffers)
        lefts = (*rows[: len(left_tokens)], *read(left_refs, at))
        rights = (*rows[len(left_tokens) :], *read(right_refs, at))
        a = jnp.where(own, sides.left(lefts, numbers), 0)
        b = jnp.where(own, sides.right(rights, numbers), 0)
        total[...] += lax.dot_general(
            a.astype(COMPUTE_DTYPE),
            b.astype(COMPUTE_DTYPE),
            (((0,), (0,)), ((), ())),
            precision=precision(COMPUTE_DTYPE),
            preferred_element_type=jnp.float32,
        )

    for_chunks(filled[m], chunk)

    @pl.when((m == steps[0] - 1) | (expert[m] != expert[m + 1]))
    def _() -> None:
        if not sides.whole:
            out[0] = total[...].astype(out.dtype)
            return
        send(total, out.at[expert[m]], sides.starts(place), leave, expert[m] == 0)

    if sides.whole:
        result, left_chip = leave
        pl.when(m == steps[0] - 1)(
            lambda: pltpu.make_async_copy(result, result, left_chip).wait()
        )


def part_of(source: Any, number: jax.Array, block: int, width: int) -> Any:
    """The words of a block of columns."""
    if block == width:
        return source
    held = source.shape[1] * block // width
    return source.at[:, pl.ds(pl.multiple_of(number * held, GROUP_WORDS), held)]


def send(
    total: Any,
    out: Any,
    start: tuple[Any, Any],
    leave: tuple[Any, Any],
    first: jax.Array,
) -> None:
    """Start copying a sum to `out` [A, B] at `start`, once the last one has left."""
    result, left_chip = leave
    pl.when(~first)(lambda: pltpu.make_async_copy(result, result, left_chip).wait())
    result[...] = total[...].astype(result.dtype)
    rows, columns = (pl.ds(s, n) for s, n in zip(start, result.shape, strict=True))
    pltpu.make_async_copy(result, out.at[rows, columns], left_chip).start()


def token_buffers(
    summed: Summed, widths: tuple[int, int], blocks: tuple[int, int], window: int
) -> list[Any]:
    """Buffers of fetched rows: those of two windows, a block of columns of each."""
    sides = (summed.left_tokens, summed.right_tokens)
    return [
        pltpu.VMEM((2, window, t.shape[1] * block // width), t.dtype)
        for side, block, width in zip(sides, blocks, widths, strict=True)
        for t in side
    ]


def sum_blocks(
    summed: Summed, blocks: tuple[int, int], window: int
) -> list[pl.BlockSpec]:
    """How each operand is cut; rows and numbers follow the window."""

    def side(axis: int) -> pl.BlockSpec:
        shape = (window, blocks[axis])
        return pl.BlockSpec(shape, lambda i, j, m, e, t, f, n: (t[m], (i, j)[axis]))

    def tokens(step: int) -> pl.BlockSpec:
        return pl.BlockSpec(
            (1, 1, window),
            lambda i, j, m, e, t, f, n: (
                t[jnp.minimum(m + 1, n[0] - 1) if step else 0],
                0,
                0,
            ),
            memory_space=pltpu.SMEM,
        )

    lines = (1, window // CHUNK_ROWS, CHUNK_ROWS)
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


def sum_operands(plan: RowPlan, summed: Summed, window: int) -> Arrays:
    """The kernel's operands in order."""
    tokens = (plan.flat // CHOICES).reshape(-1, 1, window)
    fetching = summed.left_tokens or summed.right_tokens
    return (
        *((tokens, tokens) if fetching else ()),
        *summed.left_tokens,
        *summed.left,
        *summed.right_tokens,
        *summed.right,
        *(in_lines(numbers, window) for numbers in summed.numbers),
    )
