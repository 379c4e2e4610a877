"""A grouped matmul's walk over tiles, beside one that looks at every row."""

import numpy as np

from backends.tpu.profile.group_tiles import Rows, group_tiles

_TILE = 8


def _walk(sizes: Rows, visit_empty: bool) -> list[tuple[int, int]]:
    """(group, tile) of every visit, found row by row."""
    owner = np.repeat(np.arange(len(sizes)), sizes)
    tiles = -(-len(owner) // _TILE)
    visits = []
    for group in range(len(sizes)):
        begin = int(sizes[:group].sum())
        rows = np.flatnonzero(owner == group)
        held = sorted({int(row) // _TILE for row in rows})
        if visit_empty and not held:
            held = [min(begin // _TILE, tiles - 1)]
        visits += [(group, tile) for tile in held]
    return visits


def test_every_group_visits_the_tiles_that_hold_its_rows() -> None:
    draws = np.random.default_rng(0)
    for _ in range(200):
        groups, tiles = draws.integers(1, 12), draws.integers(1, 20)
        shares = draws.dirichlet(np.full(groups, 0.4))
        sizes = draws.multinomial(tiles * _TILE, shares).astype(np.int64)
        for visit_empty in (False, True):
            found = group_tiles(sizes, _TILE, visit_empty=visit_empty)
            wanted = _walk(sizes, visit_empty)
            shown = list(zip(found.group, found.tile, strict=True))[: found.visits]
            assert shown == wanted
            assert found.offsets.tolist() == [0, *np.cumsum(sizes).tolist()]
            assert len(found.group) == tiles + groups - 1


def test_operands_are_numbered_from_the_first() -> None:
    found = group_tiles(np.array([8, 0, 8]), _TILE).scalars(first=2)
    assert found["argument2"] == [2]
    assert found["argument3"] == [0, 8, 8, 16]
    assert found["argument4"][:2] == [0, 2]
