"""Which tile of rows a grouped matmul of the megablox family works on, visit by visit.

Its groups need not start a tile. What is computed here stands in the scalar memory of
such a kernel; for any other kernel see `operand_values`.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Rows: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True)
class GroupTiles:
    """Tiles of rows in groups that need not start a tile (the megablox family).

    `offsets` int64 [G + 1]: where each group's rows begin. `group` and `tile`, int64
    [m / tile_rows + G - 1]: whose rows a visit works on, and in which tile; the last
    is repeated to the end. `visits`: how many of them there are.
    """

    offsets: Rows
    group: Rows
    tile: Rows
    visits: int

    def scalars(self, first: int = 0) -> dict[str, list[int]]:
        """As operands: the visits, offsets, groups and tiles, from operand `first`."""
        walk = (np.asarray([self.visits]), self.offsets, self.group, self.tile)
        return {f"argument{first + i}": words.tolist() for i, words in enumerate(walk)}


def group_tiles(
    sizes: Rows, tile_rows: int, *, visit_empty: bool = False
) -> GroupTiles:
    """The visits of tiles when groups of `sizes` rows follow each other without gaps.

    A tile is visited once for each group that has rows in it; with `visit_empty` a
    group without rows has one visit too, so that its result is written. A tile that no
    group begins or ends in counts once. (Gale et al. 2022, section 5.1, in tiles.)
    """
    sizes = np.asarray(sizes, np.int64)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
    starts, ends = offsets[:-1], offsets[1:]
    rows = int(offsets[-1])
    tiles = -(-rows // tile_rows)
    first, last = starts // tile_rows, -(-ends // tile_rows)
    visited = np.where(sizes == 0, int(visit_empty), last - first)
    room = tiles + len(sizes) - 1
    group = _padded(np.repeat(np.arange(len(sizes)), visited), room)
    own = [
        np.minimum(np.arange(count) + begin, tiles - 1)
        for begin, count in zip(first, visited, strict=True)
    ]
    tile = _padded(np.concatenate(own), room)
    return GroupTiles(offsets, group, tile, int(visited.sum()))


def _padded(values: Rows, room: int) -> Rows:
    """Cut or repeated to `room` entries."""
    last = values[-1:] if len(values) else np.zeros(1, np.int64)
    return np.concatenate([values, np.repeat(last, room)])[:room]
