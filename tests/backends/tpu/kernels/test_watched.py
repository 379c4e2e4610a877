"""Every kernel under the interpreter that finds races and unwritten memory."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas import tpu as pltpu

from backends.tpu.kernels import router as router_kernel
from backends.tpu.kernels import router_blocks, row_blocks, rows, token_words
from backends.tpu.kernels.combine_rows import combine_rows
from backends.tpu.kernels.fetch import fetch_tokens
from backends.tpu.kernels.words import as_words
from tests.backends.tpu.kernels.small_router import (
    FLOAT,
    drawn,
    route_backward,
    route_forward,
)
from tests.backends.tpu.kernels.small_rows import (
    CHUNK,
    COLUMNS,
    INNER,
    products_of_rows,
    routed,
    set_constants,
    two_products,
)

interpreter = pytest.importorskip(
    "jax._src.pallas.mosaic.interpret.interpret_pallas_call",
    reason="this JAX keeps the record of races elsewhere",
)
EXPERTS, TALL = 5, 300  # of the router, whose tiles are 128 tokens


@pytest.fixture
def both_ways(monkeypatch):
    """Runs a function as plain XLA code and watched, on so many cores; both results."""

    set_constants(monkeypatch)

    def run(function, cores=1):
        watched = pltpu.InterpretParams(
            detect_races=True,
            uninitialized_memory="nan",
            num_cores_or_threads=cores,
        )
        found = []
        for way in (True, watched):
            set_constants(monkeypatch, cores, way)
            monkeypatch.setattr(router_kernel, "INTERPRET", way)
            monkeypatch.setattr(router_blocks, "CORES", cores)
            found.append(jax.tree.map(np.asarray, jax.jit(partial(function))()))
        assert not interpreter.races.races_found
        return found

    return run


def agree(pair):
    jax.tree.map(np.testing.assert_array_equal, *pair)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(pair[1]))


def at_rows(plan, ids, row_space):
    """The rows that there are; the rest of a row space is undefined."""
    return row_space[plan.sorted_row[ids >= 0]].astype(jnp.float32)


@pytest.mark.parametrize(("dtype", "cores"), [("bfloat16", 2), ("float32", 1)])
def test_tokens_are_fetched(both_ways, dtype, cores):
    ids, plan, x = routed()

    def run():
        return at_rows(plan, ids, fetch_tokens(x.astype(dtype), plan))

    agree(both_ways(run, cores))


def test_tokens_are_packed(both_ways, monkeypatch):
    """In three steps, the last of which goes beyond the tokens."""
    monkeypatch.setattr(token_words, "PACKED_VALUES", 16 * INNER)
    x = jax.random.normal(jax.random.key(0), (33, INNER)).astype(jnp.bfloat16)
    agree(both_ways(partial(token_words.token_words, x)))


@pytest.mark.parametrize(
    ("blocks", "fetches", "rows_stay", "cores"),
    [
        ((INNER, 128), True, True, 2),
        ((INNER, 128), True, False, 1),
        ((256, 128), False, True, 1),
        ((256, 128), False, False, 2),
    ],
)
def test_rows_are_multiplied(both_ways, blocks, fetches, rows_stay, cores):
    """Rows stay, or matrices do; results leave by windows, or by copies."""
    ids, plan, x = routed()

    def run():
        made, total, _ = two_products(plan, x, blocks, fetches, True, rows_stay)
        return at_rows(plan, ids, made), at_rows(plan, ids, total)

    agree(both_ways(run, cores))


@pytest.mark.parametrize(("rows_stay", "cores"), [(True, 1), (False, 2)])
def test_matrices_are_converted(both_ways, monkeypatch, rows_stay, cores):
    """Blocks of bytes, once each, in memory of their own."""
    for module in (row_blocks, rows):
        monkeypatch.setattr(module, "NARROW", "by block")
    ids, plan, x = routed()

    def run():
        blocks = (256, 128)
        made, _, _ = two_products(plan, x, blocks, False, True, rows_stay, narrow=True)
        return at_rows(plan, ids, made)

    agree(both_ways(run, cores))


@pytest.mark.parametrize("fetches", [True, False])
def test_products_of_rows_are_added(both_ways, fetches):
    """In windows of half a tile, both widths cut."""
    _, plan, x = routed()

    def run():
        return products_of_rows(plan, x, (256, 128), fetches, CHUNK)[0]

    agree(both_ways(run))


@pytest.mark.parametrize(("gated", "cores"), [(True, 2), (False, 1)])
def test_rows_are_combined(both_ways, gated, cores):
    """Words of bfloat16, all ones (a NaN) where there is no row."""
    ids, plan, _ = routed()

    def run():
        keys = jax.random.split(jax.random.key(3))
        normal = jax.random.normal(keys[0], (plan.flat.size, COLUMNS))
        packed = as_words(normal.astype(jnp.bfloat16))
        held = jnp.zeros(plan.flat.size, bool).at[plan.sorted_row[ids >= 0]].set(True)
        words = jnp.where(held[:, None], packed, jnp.uint32(2**32 - 1))
        gates = [jax.random.normal(keys[1], ids.shape)] if gated else []
        return combine_rows(words, plan, FLOAT, *gates)

    agree(both_ways(run, cores))


@pytest.mark.parametrize(("groups", "runs", "cores"), [(1, 2, 2), (2, 2, 1)])
def test_a_router_and_its_backward(both_ways, groups, runs, cores):
    """Two tiles a run, the last of which goes beyond it; rows in pieces, backward."""
    x, router, valid, bias = drawn(TALL, 256, EXPERTS, groups, "bfloat16")

    def run():
        made = route_forward(x, router, valid, bias, groups, runs, 128)
        choice, gates, scores, _ = made.columns
        columns, read = (scores, choice, gates), (x, x.astype(FLOAT))
        blocks = 128, 128
        return made, route_backward(read, columns, router, groups, runs, blocks)

    agree(both_ways(run, cores))
