"""The TPU's row plan: whole tiles for every expert, in the order of the choices."""

import jax
import numpy as np
import pytest

from backends.tpu.kernels import fetch, row_plan
from tests.backends.cpu.kernels.routings import ROUTINGS

TILE = 8


@pytest.fixture
def planned(monkeypatch):
    def make(ids, experts):
        monkeypatch.setattr(row_plan, "EXPERTS", experts)
        monkeypatch.setattr(row_plan, "ROWS", ids.size)
        monkeypatch.setattr(row_plan, "TILE_ROWS", TILE)
        monkeypatch.setattr(row_plan, "COUNTED_ROWS", 16)
        # A fresh function each time: the constants are not part of jit's cache key.
        made = jax.jit(lambda ids: row_plan.row_plan(ids))(ids)
        return jax.tree.map(np.asarray, made)

    return make


@pytest.mark.parametrize("name", ROUTINGS)
def test_rows_lie_in_tiles_of_their_expert_in_order(name, planned):
    ids, experts = ROUTINGS[name]
    plan = planned(ids, experts)
    np.testing.assert_array_equal(plan.kept, ids >= 0)
    place = plan.sorted_row[ids >= 0]
    flat = np.flatnonzero(ids.reshape(-1) >= 0)
    assert len(set(place.tolist())) == place.size
    np.testing.assert_array_equal(plan.flat[place], flat)
    tiles = int(plan.tiles[0])
    assert (place < tiles * TILE).all()
    np.testing.assert_array_equal(plan.tile_expert[place // TILE], ids[ids >= 0])
    for expert in range(experts):
        own = place[ids[ids >= 0] == expert]
        assert plan.sizes[expert] == own.size
        assert (np.diff(own) == 1).all()


@pytest.mark.parametrize("name", ROUTINGS)
def test_every_expert_has_a_tile_for_its_sums(name, planned):
    ids, experts = ROUTINGS[name]
    plan = planned(ids, experts)
    count = int(plan.all_tiles[0])
    expert, rows = plan.all_expert[:count], plan.all_rows[:count]
    assert set(expert.tolist()) == set(range(experts))
    assert (np.diff(expert) >= 0).all()
    filled = np.bincount(expert, rows, minlength=experts)
    np.testing.assert_array_equal(filled, plan.sizes)
    used = rows > 0
    np.testing.assert_array_equal(
        plan.tile_expert[plan.all_tile[:count][used]], expert[used]
    )


@pytest.mark.parametrize("name", ROUTINGS)
def test_numbers_go_to_the_places_of_their_choices_and_back(name, planned):
    ids, experts = ROUTINGS[name]
    plan = planned(ids, experts)
    values = np.random.default_rng(1).standard_normal(ids.shape).astype(np.float32)
    placed = np.asarray(fetch.fetch_choices(jax.numpy.asarray(values), plan))
    assert placed.shape == (plan.flat.size, 1)
    expected = np.zeros(plan.flat.size, np.float32)
    expected[plan.sorted_row[plan.kept]] = values[plan.kept]
    used = np.arange(plan.flat.size) < plan.tiles[0] * TILE
    np.testing.assert_array_equal(placed[used, 0], expected[used])
    back = row_plan.numbers_of_choices(jax.numpy.asarray(placed), plan)
    np.testing.assert_array_equal(back, np.where(plan.kept, values, 0))


def test_keys_too_long_for_one_word_sort_alike(monkeypatch):
    owner = jax.numpy.asarray([1, 0, 3, 1, 0, 2, 1], jax.numpy.int32)
    monkeypatch.setattr(row_plan, "EXPERTS", 3)
    packed = row_plan.by_owner(owner)
    monkeypatch.setattr(row_plan, "EXPERTS", 1 << 30)
    np.testing.assert_array_equal(row_plan.by_owner(owner), packed)
    np.testing.assert_array_equal(packed, [1, 4, 0, 3, 6, 5, 2])


def test_places_in_queues_count_earlier_equals():
    queue = np.random.default_rng(0).integers(0, 7, (3, 301)).astype(np.int32)
    expected = [[np.sum(row[:i] == q) for i, q in enumerate(row)] for row in queue]
    got = row_plan.place_in_queue(jax.numpy.asarray(queue), 7)
    np.testing.assert_array_equal(got, expected)


def test_entries_of_a_table_are_zero_beyond_it():
    table, queue = np.array([5, 7, 11], np.int32), np.array([2, 3, 0, 1, 2], np.int32)
    np.testing.assert_array_equal(
        row_plan.entry_of(jax.numpy.asarray(table), jax.numpy.asarray(queue)),
        [11, 0, 5, 7, 11],
    )
