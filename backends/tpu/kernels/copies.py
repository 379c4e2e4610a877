"""Rows fetched from memory by their index, a step ahead of the work on them.

Two buffers: while the rows of one step are worked on, those of the next one arrive.
"""

from typing import Any

import jax
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

COPIED_TOGETHER = 16  # copies that are started, or waited for, in one go


def fetch_ahead(
    source: Any,
    buffers: Any,
    arrived: Any,
    step: jax.Array,
    steps: jax.Array,
    index: tuple[Any, Any],
    rows: tuple[jax.Array, jax.Array],
) -> jax.Array:
    """Wait for the rows of `step`, having started those of the next; their buffer.

    `index` are the row numbers of the first step and of the next one, int32[1, 1, N];
    `rows` how many rows this step and the next one have. Steps count from 0 on each
    core. `source` [T, W] is in memory, `buffers` are [2, N, W].
    """
    slot = lax.rem(step, 2)
    first, following = index

    @pl.when(step == 0)
    def _() -> None:
        start_copies(source, buffers.at[0], arrived.at[0], first, rows[0])

    @pl.when(step + 1 < steps)
    def _() -> None:
        other = 1 - slot
        start_copies(source, buffers.at[other], arrived.at[other], following, rows[1])

    wait_for_copies(buffers.at[slot], arrived.at[slot], rows[0])
    return slot


def start_copies(
    source: Any,
    buffer: Any,
    arrived: Any,
    index: Any,
    rows: jax.Array,
    begin: jax.Array | int = 0,
) -> None:
    """Start copying the rows of `source` from `begin` up to `rows`, and a few more.

    Whole groups of them; `begin` is a multiple of a group.
    """

    def group(number: jax.Array, _: None) -> None:
        start_group(source, buffer, arrived, index, number, COPIED_TOGETHER)

    groups = pl.cdiv(rows, COPIED_TOGETHER)
    lax.fori_loop(begin // COPIED_TOGETHER, groups, group, None)


def start_group(
    source: Any, buffer: Any, arrived: Any, index: Any, number: jax.Array, size: int
) -> None:
    """Start the copies of a group of `size` rows, in straight code.

    A row's place in its group is then no arithmetic, and the compiler can put the
    copies between other work.
    """
    first = pl.multiple_of(number * size, size)
    places = buffer.at[pl.ds(first, size)]
    for offset in range(size):
        one = source.at[pl.ds(index[0, 0, first + offset], 1)]
        pltpu.make_async_copy(one, places.at[pl.ds(offset, 1)], arrived).start()


def wait_for_copies(buffer: Any, arrived: Any, rows: jax.Array) -> None:
    """Wait for as many rows as `start_copies` started."""

    def group(number: jax.Array, _: None) -> None:
        first = pl.multiple_of(number * COPIED_TOGETHER, COPIED_TOGETHER)
        rows_of_group = buffer.at[pl.ds(first, COPIED_TOGETHER)]
        pltpu.make_async_copy(rows_of_group, rows_of_group, arrived).wait()

    lax.fori_loop(0, pl.cdiv(rows, COPIED_TOGETHER), group, None)
