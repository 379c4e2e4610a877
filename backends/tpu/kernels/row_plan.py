"""The row plan on a TPU: experts' rows in whole tiles, and which tile is whose.

A place is a row of the padded row space [PLACES, D]: every expert's rows begin a tile
of TILE_ROWS places, so that a block of rows has one expert. Places are found by
sorting: a core gathers and scatters numbers one at a time, and sorts many at once. What
is sorted are entries: the choices, then as many of each expert's fillers as its last
tile has empty places, then the fillers that are nobody's.

T tokens with K choices each make R = T * K flat rows; E experts; N entries.
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
    entry: jax.Array  # int32[N]: place -> entry; those of a flat row are below R
    place: jax.Array  # int32[N]: entry -> place, beyond PLACES for what is nobody's

    def at_places(self, numbers: jax.Array) -> jax.Array:
        """[PLACES]: a number of every flat row, at its place; 0 for fillers."""
        return lax.slice_in_dim(moved(numbers, self.place), 0, self.flat.size)


def most_tiles() -> int:
    """Tiles that hold ROWS rows however they fall on the experts."""
    return ROWS // TILE_ROWS + min(EXPERTS, ROWS)


def row_plan(ids: jax.Array) -> RowPlan:
    """Plan the choices `ids: int32[T, K]`; id -1 is a dropped choice."""
    kept = (ids >= 0) & (ids < EXPERTS)
    expert = jnp.where(kept, ids, EXPERTS).astype(jnp.int32).reshape(ids.size)
    names = lax.iota(jnp.int32, EXPERTS)
    sizes = jnp.sum((expert == names[:, None]).astype(jnp.int32), axis=1)
    tiles_of = (sizes + TILE_ROWS - 1) // TILE_ROWS
    ends = jnp.cumsum(tiles_of, dtype=jnp.int32)
    starts = (ends - tiles_of) * TILE_ROWS
    padding = jnp.cumsum(tiles_of * TILE_ROWS - sizes, dtype=jnp.int32)
    filler = lax.iota(jnp.int32, min(EXPERTS, ROWS) * TILE_ROWS)
    entry = by_owner(jnp.concatenate([expert, owner_of(filler, padding)]))
    place = inverse(entry)

    tiles = most_tiles()
    # An op also where that is all of them, so that every E gives the same ops.
    placed = lax.slice_in_dim(entry, 0, tiles * TILE_ROWS)
    used = lax.iota(jnp.int32, placed.size) < ends[-1] * TILE_ROWS
    flat = jnp.where(used & (placed < ids.size), placed, 0)

    tile = lax.iota(jnp.int32, tiles)
    tile_expert = expert_of(tile, ends)
    filled = jnp.where(tile < ends[-1], rows_of(tile, tile_expert, starts, sizes), 0)

    all_ends = jnp.cumsum(jnp.maximum(tiles_of, 1), dtype=jnp.int32)
    every = lax.iota(jnp.int32, tiles + EXPERTS)
    all_expert = expert_of(every, all_ends)
    before = (ends - tiles_of) - (all_ends - jnp.maximum(tiles_of, 1))
    all_tile = jnp.minimum(entry_of(before, all_expert) + every, tiles - 1)
    empty = entry_of(tiles_of, all_expert) == 0
    all_rows = jnp.where(empty, 0, rows_of(all_tile, all_expert, starts, sizes))
    return RowPlan(
        flat=flat,
        sorted_row=jnp.where(kept, place[: ids.size].reshape(ids.shape), 0),
        kept=kept,
        sizes=sizes,
        tiles=ends[-1:],
        tile_expert=tile_expert,
        filled=filled,
        all_tiles=all_ends[-1:],
        all_expert=all_expert,
        all_tile=all_tile,
        all_rows=all_rows,
        entry=entry,
        place=place,
    )


def by_owner(owner: jax.Array) -> jax.Array:
    """The entries in the order of `owner: int32[N]`, its equals as they come."""
    bits = (owner.size - 1).bit_length()
    entry = counted(owner)
    if (EXPERTS + 1) << bits > 1 << 31:
        return lax.sort((owner, entry), num_keys=2)[1]
    return lax.sort((owner << bits) | entry) & ((1 << bits) - 1)


def inverse(permutation: jax.Array) -> jax.Array:
    """Where each number is in `permutation: int32[N]`."""
    return lax.sort((permutation, counted(permutation)), num_keys=1)[1]


def moved(numbers: jax.Array, to: jax.Array) -> jax.Array:
    """[N]: `numbers`, and zeros behind them, each at its index of `to: int32[N]`."""
    padded = jnp.pad(numbers, (0, to.size - numbers.size))
    return lax.sort((to, padded), num_keys=1)[1]


def numbers_of_choices(row_space: jax.Array, plan: RowPlan) -> jax.Array:
    """[T, K]: the row [1] of every choice, 0 where dropped; from [PLACES, 1]."""
    flat = moved(row_space[:, 0], plan.entry)[: plan.kept.size]
    return jnp.where(plan.kept, flat.reshape(plan.kept.shape), 0)


def counted(like: jax.Array) -> jax.Array:
    """0, 1, 2 ..., as many as in `like: int32[N]`; varies over mesh axes as it does."""
    return lax.iota(jnp.int32, like.size) + like[0] * 0


def owner_of(index: jax.Array, ends: jax.Array) -> jax.Array:
    """int32[N]: in whose range each index is, given where all ranges end; E beyond."""
    return jnp.sum((ends[:, None] <= index).astype(jnp.int32), axis=0)


def entry_of(table: jax.Array, queue: jax.Array) -> jax.Array:
    """[N]: table[q] of `table: int32[E]` for each q of `queue: int32[N]`, 0 beyond it.

    A core gathers numbers one at a time; comparing with every index is done by lanes.
    """
    same = queue == lax.iota(jnp.int32, table.size)[:, None]
    return jnp.sum(jnp.where(same, table[:, None], 0), axis=0)


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
    return jnp.minimum(owner_of(tile, ends), EXPERTS - 1)


def rows_of(
    tile: jax.Array, expert: jax.Array, starts: jax.Array, sizes: jax.Array
) -> jax.Array:
    """How many places of each tile are rows of its expert."""
    left = entry_of(sizes + starts, expert) - tile * TILE_ROWS
    return jnp.clip(left, 0, TILE_ROWS)
