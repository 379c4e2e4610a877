"""How the products of rows cut their operands and results, and what they keep.

Blocks are told by (block of columns, tile of rows, block of the inner width); the grid
has the tiles before the blocks of columns where rows stay on the chip.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from backends.tpu.kernels.chunks import CHUNK_ROWS, in_lines
from backends.tpu.kernels.row_plan import CHOICES, TILE_ROWS, RowPlan

COMPUTE_DTYPE = jnp.bfloat16  # what operands of products are rounded to
# How matrices of one byte an element are multiplied: "" for others; "direct", as they
# are; converted "by chunk", in every product; "by block", once, in memory of their own.
NARROW = ""
CORES = 1  # TensorCores that share a device; each takes a share of the tiles

Arrays = tuple[jax.Array, ...]


class Fetched(NamedTuple):
    """What a piece reads."""

    tokens: Arrays = ()  # [T, A] as words: the kernel fetches rows, for the prologue
    inner: Arrays = ()  # row spaces [PLACES, A], for the prologue
    columns: Arrays = ()  # row spaces [PLACES, B], for the epilogue
    numbers: Arrays = ()  # row spaces [PLACES, 1], for both
    weights: Arrays = ()  # [E, A, B], or transposed, one for each product
    biases: Arrays = ()  # [E, B]


def tile_of(core: jax.Array, m: jax.Array, told: Any) -> jax.Array:
    """The m-th tile of a core; the last one again where there are no more.

    `told` are the number of tiles and how many of them a core takes.
    """
    return jnp.minimum(core * told[1] + m, jnp.maximum(told[0] - 1, 0))


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


def as_it_is(block: pl.BlockSpec) -> pl.BlockSpec:
    return block


def tiles_first(block: pl.BlockSpec) -> pl.BlockSpec:
    """A block in a grid whose tiles of rows come before blocks of columns."""
    index = block.index_map
    if index is None:
        return block
    return pl.BlockSpec(
        block.block_shape,
        lambda h, m, n, *others: index(h, n, m, *others),
        memory_space=block.memory_space,
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


def out_block(width: int, dtype: Any, tile_columns: int, leaves: bool) -> pl.BlockSpec:
    """Blocks of a result; sums over columns have a slice for each block of columns."""
    if width == 1:
        lines = (1, 1, TILE_ROWS // CHUNK_ROWS, CHUNK_ROWS)
        return spec(lines, lambda n, t, k, e: (n, t, 0, 0))
    if leaves:
        return pl.BlockSpec(memory_space=pl.ANY)
    held = held_columns(tile_columns, dtype)
    return spec((TILE_ROWS, held), lambda n, t, k, e: (t, n))


def held_columns(columns: int, dtype: Any) -> int:
    """Columns of a result as it is stored: words hold two each."""
    return columns // 2 if dtype == jnp.uint32 else columns


def leaving_buffers(
    results: tuple[tuple[int, Any], ...], tile_columns: int
) -> list[Any]:
    """Buffers of the results that leave by copies."""
    return [
        pltpu.VMEM((TILE_ROWS, held_columns(tile_columns, dtype)), dtype)
        for width, dtype in results
        if width > 1
    ]


def out_shape(plan: RowPlan, width: int, dtype: Any, cuts: int) -> tuple[int, ...]:
    places = plan.flat.size
    if width == 1:
        tiles = places // TILE_ROWS
        return (cuts, tiles, TILE_ROWS // CHUNK_ROWS, CHUNK_ROWS)
    return (places, held_columns(width, dtype))


def scratch(
    fetched: Fetched,
    transposed: tuple[bool, ...],
    sums: int,
    blocks: tuple[int, int],
    leaving: list[Any],
) -> list[Any]:
    """Sums, where the inner width is cut, results, widened weights, fetched rows."""
    wide: tuple[bool, ...] = ()
    if NARROW == "by block":
        wide = transposed
    return [
        *(pltpu.VMEM((TILE_ROWS, blocks[1]), jnp.float32) for _ in range(sums)),
        *leaving,
        *([pltpu.SemaphoreType.DMA((len(leaving),))] if leaving else ()),
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
