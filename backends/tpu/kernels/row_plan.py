"""The row plan on a TPU: experts' rows in whole tiles, and which tile is whose.

A place is a row of the padded row space [PLACES, D]: every expert's rows begin a tile
of TILE_ROWS places, so that a block of rows has one expert. Places are found by
counting, not by sorting: a choice's place is its expert's start plus the number of
earlier choices of that expert.

T tokens with K choices each make R = T * K flat rows; E experts.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

EXPERTS = 64
CHOICES = 2  # K
ROWS = 4096  # rows that can be kept, at most
TILE_ROWS = 128
COUNTED_ROWS = 512  # entries that are counted at once


class RowPlan(NamedTuple):
    """Where the kept rows lie, and the tiles that hold them.

    Tiles beyond `tiles` are not run. `tile_expert` has room for every expert's
    last, partly filled tile; `all_*` also give each expert without rows one empty
    tile, for what must be written for every expert.
    """

    flat: jax.Array  # int32[PLACES]: place -> flat row; 0 for padding
    sorted_row: jax.Array  # int32[T, K]: choice -> place; 0 for a dropped one
    kept: jax.Array  # bool[T, K]: whether the choice is not dropped
    sizes: jax.Array  # int32[E]: rows of every expert
    tiles: jax.Array  # int32[1]: how many tiles have rows
    tile_expert: jax.Array  # int32[TILES]
    filled: jax.Array  # int32[TILES]: how many places of each tile are rows
    all_tiles: jax.Array  # int32[1]
    all_expert: jax.Array  # int32[TILES + E]
    all_tile: jax.Array  # int32[TILES + E]: which tile of the row space
    all_rows: jax.Array  # int32[TILES + E]: how many of its places are rows


def most_tiles() -> int:
    """Tiles that hold ROWS rows however they fall on the experts."""
    return ROWS // TILE_ROWS + min(EXPERTS, ROWS)


def row_plan(ids: jax.Array) -> RowPlan:
    """Plan the choices `ids: int32[T, K]`; id -1 is a dropped choice."""
    kept = (ids >= 0) & (ids < EXPERTS)
    expert = jnp.where(kept, ids, EXPERTS).astype(jnp.int32).reshape(ids.size)
    rank, sizes = rank_in_queue(expert, EXPERTS)
    tiles_of = (sizes + TILE_ROWS - 1) // TILE_ROWS
    ends = jnp.cumsum(tiles_of, dtype=jnp.int32)
    starts = (ends - tiles_of) * TILE_ROWS
    place = entry_of(starts, expert) + rank
    place = jnp.where(kept, place.reshape(ids.shape), 0)

    tiles = most_tiles()
    places = tiles * TILE_ROWS
    index = lax.iota(jnp.int32, ids.size)
    target = jnp.where(kept.reshape(ids.size), place.reshape(ids.size), places)
    flat = jnp.zeros((places,), jnp.int32).at[target].set(index, mode="drop")

    tile = lax.iota(jnp.int32, tiles)
    tile_expert = expert_of(tile, ends)
    filled = jnp.where(tile < ends[-1], rows_of(tile, tile_expert, starts, sizes), 0)

    all_ends = jnp.cumsum(jnp.maximum(tiles_of, 1), dtype=jnp.int32)
    every = lax.iota(jnp.int32, tiles + EXPERTS)
    all_expert = expert_of(every, all_ends)
    own = every - (all_ends - jnp.maximum(tiles_of, 1))[all_expert]
    all_tile = jnp.minimum((ends - tiles_of)[all_expert] + own, tiles - 1)
    empty = tiles_of[all_expert] == 0
    all_rows = jnp.where(empty, 0, rows_of(all_tile, all_expert, starts, sizes))
    return RowPlan(
        flat=flat,
        sorted_row=place,
        kept=kept,
        sizes=sizes,
        tiles=ends[-1:],
        tile_expert=tile_expert,
        filled=filled,
        all_tiles=all_ends[-1:],
        all_expert=all_expert,
        all_tile=all_tile,
        all_rows=all_rows,
    )


def entry_of(table: jax.Array, queue: jax.Array) -> jax.Array:
    """[N]: table[q] of `table: int32[E]` for each q of `queue: int32[N]`, 0 beyond it.

    A core gathers numbers one at a time; comparing with every index is done by lanes.
    """
    same = queue[:, None] == lax.iota(jnp.int32, table.size)
    return jnp.sum(jnp.where(same, table, 0), axis=1)


def rank_in_queue(queue: jax.Array, queues: int) -> tuple[jax.Array, jax.Array]:
    """How many earlier entries of `queue: int32[N]` are equal, and entries a queue.

    Entries are in [0, queues]; those equal to `queues` are nobody's. Counted block by
    block, so that no tensor of N x queues is made; in a block by a product of zeros and
    ones, whose sums float32 holds exactly.
    """
    rows = min(COUNTED_ROWS, queue.size)
    blocks = -(-queue.size // rows)
    padding = blocks * rows - queue.size
    padded = jnp.pad(queue, (0, padding), constant_values=queues)
    names = lax.iota(jnp.int32, queues)
    below = jnp.tri(rows, k=-1, dtype=jnp.bfloat16)

    def count(before: jax.Array, block: jax.Array) -> tuple[jax.Array, jax.Array]:
        marks = block[:, None] == names
        ones = marks.astype(jnp.bfloat16)
        counts = jnp.dot(below, ones, preferred_element_type=jnp.float32)
        earlier = counts.astype(jnp.int32) + before
        rank = jnp.sum(jnp.where(marks, earlier, 0), axis=1)
        return before + jnp.sum(marks.astype(jnp.int32), axis=0), rank

    zero = names * (queue[0] * 0)  # varies over mesh axes as the queue does
    sizes, rank = lax.scan(count, zero, padded.reshape(blocks, rows))
    return rank.reshape(-1)[: queue.size], sizes


def place_in_queue(queue: jax.Array, queues: int) -> jax.Array:
    """How many earlier entries of its row equal each entry of `queue: int32[G, N]`."""
    return jax.vmap(lambda row: rank_in_queue(row, queues)[0])(queue)


def expert_of(tile: jax.Array, ends: jax.Array) -> jax.Array:
    """The expert of each tile, given where every expert's tiles end."""
    expert = jnp.searchsorted(ends, tile, side="right").astype(jnp.int32)
    return jnp.minimum(expert, EXPERTS - 1)


def rows_of(
    tile: jax.Array, expert: jax.Array, starts: jax.Array, sizes: jax.Array
) -> jax.Array:
    """How many places of each tile are rows of its expert."""
    left = sizes[expert] - (tile * TILE_ROWS - starts[expert])
    return jnp.clip(left, 0, TILE_ROWS)
