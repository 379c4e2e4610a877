"""A tile's rows in chunks: whole ones in a loop, the last one as small as it may be.

So an expert with few rows, or few left over, does not pay for a whole tile of products.
Numbers per row lie along the lanes, a chunk a line: one number a row would fill a tile
of memory with zeros.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl

CHUNK_ROWS = 128  # rows of a whole chunk
LEAST_ROWS = 16  # two rows of bfloat16 share a sublane of 8


def for_chunks(rows: jax.Array, body: Callable[[jax.Array, int], None]) -> None:
    """Run `body(chunk, size)` for the chunks of `rows` rows, `size` of them each."""
    tail = CHUNK_ROWS // 2 if CHUNK_ROWS > LEAST_ROWS else 0
    whole = (rows + CHUNK_ROWS - 1 - tail) // CHUNK_ROWS

    def step(chunk: jax.Array, _: None) -> None:
        body(chunk, CHUNK_ROWS)

    lax.fori_loop(0, whole, step, None)
    left = rows - whole * CHUNK_ROWS
    size, less = LEAST_ROWS, 0
    while size <= tail:
        pl.when((left > less) & (left <= size))(partial(body, whole, size))
        size, less = 2 * size, size


def rows_at(chunk: jax.Array, size: int) -> pl.Slice:
    """The rows of a chunk within its tile."""
    return pl.Slice(pl.multiple_of(chunk * CHUNK_ROWS, CHUNK_ROWS), size)


def in_lines(numbers: jax.Array, tile_rows: int) -> jax.Array:
    """[TILES, chunks of a tile, CHUNK_ROWS] from one number a place, [PLACES, 1].

    Lines of bfloat16 would share a sublane, and could not be read one by one.
    """
    return numbers.astype(line_dtype(numbers.dtype)).reshape(
        -1, tile_rows // CHUNK_ROWS, CHUNK_ROWS
    )


def line_dtype(dtype: Any) -> Any:
    """The dtype of lines of numbers."""
    return jnp.float32 if dtype == jnp.bfloat16 else dtype


def read_numbers(
    refs: Sequence[Any], given: Sequence[jax.Array], chunk: jax.Array, size: int
) -> tuple[jax.Array, ...]:
    """A chunk's numbers, [size, 1] each, in the dtypes of those that were given."""
    return tuple(
        to_column(ref[0, pl.ds(chunk, 1), :size]).astype(numbers.dtype)
        for ref, numbers in zip(refs, given, strict=True)
    )


def to_column(line: jax.Array) -> jax.Array:
    """[N, 1] from [1, N]."""
    spread = jnp.broadcast_to(line, (line.shape[1],) * 2)
    return jnp.sum(jnp.where(diagonal(spread.shape), spread, 0), axis=1, keepdims=True)


def to_line(column: jax.Array) -> jax.Array:
    """[1, N] from [N, 1]."""
    spread = jnp.broadcast_to(column, (column.shape[0],) * 2)
    return jnp.sum(jnp.where(diagonal(spread.shape), spread, 0), axis=0, keepdims=True)


def diagonal(shape: tuple[int, ...]) -> jax.Array:
    row = lax.broadcasted_iota(jnp.int32, shape, 0)
    return row == lax.broadcasted_iota(jnp.int32, shape, 1)
