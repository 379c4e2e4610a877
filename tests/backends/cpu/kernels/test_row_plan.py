import jax
import numpy as np
import pytest

from backends.cpu.kernels import capacity, row_plan
from tests.backends.cpu.kernels.reference import capacity_reference, plan_reference
from tests.backends.cpu.kernels.routings import ROUTINGS, random_ids, with_drops


@pytest.mark.parametrize("name", ROUTINGS)
def test_plan_sorts_kept_rows_by_expert_then_flat_row(name, monkeypatch):
    ids, experts = ROUTINGS[name]
    monkeypatch.setattr(row_plan, "EXPERTS", experts)
    plan = jax.tree.map(np.asarray, jax.jit(lambda ids: row_plan.row_plan(ids))(ids))
    expected = plan_reference(ids, experts)
    np.testing.assert_array_equal(plan.sizes, [len(rows) for rows in expected])
    for expert, rows in enumerate(expected):
        start = plan.starts[expert]
        np.testing.assert_array_equal(plan.flat[start : start + len(rows)], rows)
    np.testing.assert_array_equal(plan.kept, ids >= 0)
    flat = np.arange(ids.size).reshape(ids.shape)
    np.testing.assert_array_equal(plan.flat[plan.sorted_row], flat)
    assert all(leaf.dtype in (np.int32, bool) for leaf in plan)


def test_sort_by_key_is_the_same_when_keys_do_not_pack():
    keys = np.random.default_rng(0).integers(0, 7, 100).astype(np.int32)
    packed = row_plan.sort_by_key(keys, 7)
    unpacked = row_plan.sort_by_key(keys, 2**30)
    np.testing.assert_array_equal(packed[0], unpacked[0])
    np.testing.assert_array_equal(packed[1], unpacked[1])


@pytest.mark.parametrize("priority", ["choice", "token"])
@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("places", [0, 1, 3, 1000])
def test_drop_over_capacity(places, groups, priority, monkeypatch):
    ids = with_drops(random_ids(40, 3, 6))
    monkeypatch.setattr(capacity, "EXPERTS", 6)
    monkeypatch.setattr(capacity, "CAPACITY", places)
    monkeypatch.setattr(capacity, "GROUPS", groups)
    monkeypatch.setattr(capacity, "PRIORITY", priority)
    got = jax.jit(lambda ids: capacity.drop_over_capacity(ids))(ids)
    expected = capacity_reference(ids, 6, places, groups, priority)
    np.testing.assert_array_equal(got, expected)
    assert got.dtype == np.int32
