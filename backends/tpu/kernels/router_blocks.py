"""How the router's operands and results are cut into blocks.

Tokens come in equal runs of consecutive ones, a whole number of them to a group; a run
is cut into tiles, whose last one may reach beyond it. Wide rows are cut in whole pieces
where the router's weights would not fit otherwise.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from backends.tpu.kernels.row_blocks import CORES

LANES = 128  # of a vector register

Arrays = tuple[jax.Array, ...]


class Routed(NamedTuple):
    """What a program reads."""

    rows: tuple[Any, ...] = ()  # [T, D]; handed on as references [N, D]
    columns: tuple[Any, ...] = ()  # [T] or [T, W]; handed on as [W, N]
    groups: tuple[Any, ...] = ()  # [G, W]; handed on as [W, 1], the group's own
    vectors: tuple[Any, ...] = ()  # [W] or []; handed on as [W, 1]
    weights: tuple[Any, ...] = ()  # [W, D]; handed on as references


class Made(NamedTuple):
    """What a program makes: (width, dtype) of each, or the values."""

    rows: tuple[Any, ...] = ()  # [N, D] of a tile, [T, D] in all
    columns: tuple[Any, ...] = ()  # [W, N] of a tile, [T, W] in all
    groups: tuple[Any, ...] = ()  # [W, N]; summed over each group's tokens, [G, W]
    sums: tuple[Any, ...] = ()  # [W, N]; summed over all tokens, [W]
    weights: tuple[Any, ...] = ()  # [W, D]; summed over tiles; its width is (W, D)


class Cut(NamedTuple):
    """The sizes of the grid, and those of a block."""

    cores: int
    pieces: int  # of a wide row
    runs: int  # of a core
    tiles: int  # of a run
    tokens: int  # of a tile
    width: int  # of a piece
    sharing: int  # runs of one group
    size: int  # tokens of a run


def cut_of(
    routed: Routed, made: Made, groups: int, runs: int, blocks: tuple[int, int]
) -> Cut:
    """The cut into `runs` runs, tiles of blocks[0] tokens and pieces of blocks[1]."""
    tokens, width = blocks
    size = (routed.rows + routed.columns)[0].shape[0] // runs
    widths = [row.shape[1] for row in routed.rows] + [kind[0] for kind in made.rows]
    cores = CORES if runs % CORES == 0 else 1
    pieces, tiles = max(widths, default=width) // width, pl.cdiv(size, tokens)
    return Cut(cores, pieces, runs // cores, tiles, tokens, width, runs // groups, size)


def turned(routed: Routed, cut: Cut) -> Arrays:
    """The operands in order: run by run, and columns with tokens along the lanes."""

    def by_run(values: jax.Array) -> jax.Array:
        return values.reshape(cut.cores * cut.runs, cut.size, -1)

    columns = [c.astype(jnp.int32) if c.dtype == bool else c for c in routed.columns]
    return (
        *(by_run(row) for row in routed.rows),
        *(by_run(column).swapaxes(1, 2) for column in columns),
        *(group[:, :, None] for group in routed.groups),
        *(vector.reshape(-1, 1) for vector in routed.vectors),
        *routed.weights,
    )


def read_blocks(routed: Routed, cut: Cut) -> list[pl.BlockSpec]:
    """How each operand is cut; weights that stay are held once, not twice."""
    held = pl.Buffered(1) if cut.pieces == 1 else None
    return [
        *(row_block(row.shape[1], cut) for row in routed.rows),
        *(column_block(c.size // c.shape[0], cut) for c in routed.columns),
        *(group_block(group.shape[1], cut) for group in routed.groups),
        *(pl.BlockSpec((v.size, 1), lambda *at: (0, 0)) for v in routed.vectors),
        *(
            pl.BlockSpec(
                (w.shape[0], piece_of(w.shape[1], cut)),
                lambda c, n, r, m: (0, n),
                pipeline_mode=held,
            )
            for w in routed.weights
        ),
    ]


def made_blocks(made: Made, cut: Cut) -> list[pl.BlockSpec]:
    """How each result is cut; sums stay on the chip until they are whole."""
    lanes = lanes_of(cut)
    return [
        *(row_block(width, cut) for width, _ in made.rows),
        *(column_block(width, cut) for width, _ in made.columns),
        *(
            pl.BlockSpec((None, w, lanes), lambda c, n, r, m: (run_of(c, r, cut), 0, 0))
            for w, _ in made.groups
        ),
        *(
            pl.BlockSpec((None, w, lanes), lambda c, n, r, m: (c, 0, 0))
            for w, _ in made.sums
        ),
        *(
            pl.BlockSpec(
                (None, narrow, piece_of(wide, cut)), lambda c, n, r, m: (c, 0, n)
            )
            for (narrow, wide), _ in made.weights
        ),
    ]


def made_shapes(made: Made, cut: Cut) -> list[tuple[tuple[int, ...], Any]]:
    """Shape and dtype of each result before `finished`; truths are numbers."""
    runs, lanes = cut.cores * cut.runs, lanes_of(cut)
    shapes = [
        *(((runs, cut.size, width), kind) for width, kind in made.rows),
        *(((runs, width, cut.size), kind) for width, kind in made.columns),
        *(((runs, width, lanes), kind) for width, kind in made.groups),
        *(((cut.cores, width, lanes), kind) for width, kind in made.sums),
        *(((cut.cores, *widths), kind) for widths, kind in made.weights),
    ]
    return [(s, jnp.int32 if kind == jnp.bool_ else kind) for s, kind in shapes]


def finished(made: Made, results: Made, cut: Cut) -> Made:
    """The results as the layer has them: tokens first, and sums added up."""
    tokens, groups = cut.cores * cut.runs * cut.size, cut.cores * cut.runs
    groups //= cut.sharing

    def column(values: jax.Array, kind: Any) -> jax.Array:
        whole = values.swapaxes(1, 2).reshape(tokens, -1)
        return whole != 0 if kind == jnp.bool_ else whole

    return Made(
        tuple(row.reshape(tokens, -1) for row in results.rows),
        tuple(
            column(values, kind)
            for values, (_, kind) in zip(results.columns, made.columns, strict=True)
        ),
        tuple(
            jnp.sum(s.reshape(groups, cut.sharing, *s.shape[1:]), (1, 3), s.dtype)
            for s in results.groups
        ),
        tuple(jnp.sum(s, (0, 2), s.dtype) for s in results.sums),
        tuple(jnp.sum(weight, axis=0) for weight in results.weights),
    )


def row_block(width: int, cut: Cut) -> pl.BlockSpec:
    shape = (None, cut.tokens, piece_of(width, cut))
    return pl.BlockSpec(shape, lambda c, n, r, m: (run_of(c, r, cut), m, n))


def column_block(width: int, cut: Cut) -> pl.BlockSpec:
    shape = (None, width, cut.tokens)
    return pl.BlockSpec(shape, lambda c, n, r, m: (run_of(c, r, cut), 0, m))


def group_block(width: int, cut: Cut) -> pl.BlockSpec:
    shape = (None, width, 1)
    return pl.BlockSpec(
        shape, lambda c, n, r, m: (run_of(c, r, cut) // cut.sharing, 0, 0)
    )


def run_of(core: Any, run: Any, cut: Cut) -> Any:
    """The number of a core's run among all."""
    return core * cut.runs + run


def piece_of(width: int, cut: Cut) -> int:
    return width if cut.pieces == 1 else cut.width


def lanes_of(cut: Cut) -> int:
    """Lanes of a sum: a register's, or a tile's where that is no whole number."""
    return LANES if cut.tokens % LANES == 0 else cut.tokens
