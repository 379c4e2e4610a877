import jax
import jax.numpy as jnp
import numpy as np
import pytest

from backends.cpu.kernels import grouped, row_plan
from backends.cpu.kernels.combine import choice_rows, combine
from tests.backends.cpu.kernels.reference import (
    backward_body,
    forward_body,
    layer_reference,
)
from tests.backends.cpu.kernels.routings import ROUTINGS, random_ids

MODEL, HIDDEN = 6, 10
TILES = (8, 64)
TOLERANCE = {jnp.float32: 2e-5, jnp.bfloat16: 4e-2}


@pytest.fixture
def configure(monkeypatch):
    def set_constants(experts, choices, dtype=jnp.float32):
        monkeypatch.setattr(row_plan, "EXPERTS", experts)
        monkeypatch.setattr(grouped, "CHOICES", choices)
        monkeypatch.setattr(grouped, "GRADIENT_DTYPE", dtype)
        monkeypatch.setattr(grouped, "PADDING", 64)

    return set_constants


def operands(ids, experts, dtype=jnp.float32, model=MODEL, hidden=HIDDEN):
    rng = np.random.default_rng(7)

    def draw(*shape):
        return jnp.asarray(rng.standard_normal(shape), jnp.float32).astype(dtype)

    tokens = ids.shape[0]
    x, dout = draw(tokens, model), draw(tokens, model)
    gates = draw(*ids.shape).astype(jnp.float32)
    wi, wo = draw(experts, model, hidden), draw(experts, hidden, model)
    return x, jnp.asarray(ids), gates, wi, wo, dout


def layer(x, ids, gates, wi, wo, dout):
    """(y, dx, dgates, dwi, dwo), as the compiler would string the kernels."""
    plan = row_plan.row_plan(ids)
    forward, backward = forward_body(x.dtype), backward_body(x.dtype)
    (y, h), _ = grouped.grouped(forward, plan, (x,), (), (), (wi, wo), TILES)
    (dx, ds), (dwi, dwo) = grouped.grouped(
        backward, plan, (x, dout), (gates,), (h,), (wi, wo), TILES
    )
    out = combine(y, plan, gates)
    return out, combine(dx, plan), choice_rows(ds, plan), dwi, dwo


def run(*args):
    # A fresh function each time: the constants are not part of jit's cache key.
    return jax.tree.map(np.asarray, jax.jit(lambda *a: layer(*a))(*args))


@pytest.mark.parametrize("dtype", TOLERANCE, ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", ROUTINGS)
def test_layer_agrees_with_reference(name, dtype, configure):
    ids, experts = ROUTINGS[name]
    configure(experts, ids.shape[1], dtype)
    args = operands(ids, experts, dtype)
    for got, expected in zip(run(*args), layer_reference(*args), strict=True):
        scale = max(np.abs(expected).max(), 1)
        error = np.abs(got.astype(np.float64) - expected).max() / scale
        assert error < TOLERANCE[dtype]


def test_outputs_keep_their_dtypes_with_x64(configure):
    configure(5, 2, jnp.bfloat16)
    with jax.enable_x64(True):
        args = operands(ROUTINGS["drops"][0], 5, jnp.bfloat16)
        got = run(*args)
    assert [str(a.dtype) for a in got[:2]] == ["bfloat16", "bfloat16"]
    assert str(got[2].dtype) == "float32"
    assert [str(a.dtype) for a in got[3:]] == ["bfloat16", "bfloat16"]


def test_unused_experts_and_dropped_choices_are_exactly_zero(configure):
    ids = np.array([[0, -1], [-1, -1], [3, 0]], np.int32)
    configure(5, 2)
    x, ids, gates, wi, wo, dout = operands(ids, 5)
    # What must not be read is poisoned.
    x, dout = x.at[1].set(jnp.nan), dout.at[1].set(jnp.inf)
    gates = gates.at[0, 1].set(jnp.nan)
    wi, wo = (w.at[jnp.array([1, 2, 4])].set(jnp.nan) for w in (wi, wo))
    y, dx, dgates, dwi, dwo = run(x, ids, gates, wi, wo, dout)
    assert all(np.isfinite(a).all() for a in (y, dx, dgates, dwi, dwo))
    assert not y[1].any()
    assert not dx[1].any()
    assert not dgates[[0, 1, 1], [1, 0, 1]].any()
    assert not dwi[[1, 2, 4]].any()
    assert not dwo[[1, 2, 4]].any()


def test_a_poisoned_token_changes_no_other_token(configure):
    ids = random_ids(40, 2, 4)
    configure(4, 2)
    x, ids, gates, wi, wo, dout = operands(ids, 4)
    clean = run(x, ids, gates, wi, wo, dout)
    for poison in (np.nan, np.inf):
        dirty = run(x.at[17].set(poison), ids, gates, wi, wo, dout)
        others = np.arange(40) != 17
        for before, after in zip(clean[:3], dirty[:3], strict=True):
            np.testing.assert_array_equal(before[others], after[others])


def test_reruns_are_equal_bit_by_bit(configure):
    ids, experts = ROUTINGS["two experts"]
    configure(experts, 2)
    args = operands(ids, experts)
    compiled = jax.jit(layer)
    first = [np.asarray(a).tobytes() for a in compiled(*args)]
    for _ in range(5):
        assert [np.asarray(a).tobytes() for a in compiled(*args)] == first


def test_per_expert_vectors_read_as_one_row(configure):
    ids, experts = ROUTINGS["drops"]
    configure(experts, 2)
    x, ids, _, wi, *_ = operands(ids, experts)
    bias = jnp.arange(experts * HIDDEN, dtype=jnp.float32).reshape(experts, HIDDEN)

    def body(own, rows, weights):
        (x,), (w, b) = rows, weights
        h = jnp.matmul(x, w) + b
        return (h,), (jnp.sum(jnp.zeros_like(h) + 1, 0, keepdims=True),)

    plan = row_plan.row_plan(ids)
    (h,), (sums,) = grouped.grouped(body, plan, (x,), (), (), (wi, bias), TILES)
    got = combine(h, plan)
    for t in range(ids.shape[0]):
        kept = [e for e in np.asarray(ids[t]) if e >= 0]
        expected = sum(x[t] @ wi[e] + bias[e] for e in kept) if kept else 0
        np.testing.assert_allclose(got[t], expected, rtol=1e-4, atol=1e-4)
    assert sums.shape == (experts, 1, HIDDEN)


def test_memory_and_program_do_not_grow_with_experts(configure):
    def compiled(experts):
        configure(experts, 2)
        args = operands(random_ids(256, 2, experts), experts, model=64, hidden=128)
        lowered = jax.jit(lambda *a: layer(*a)).lower(*args)
        memory = lowered.compile().memory_analysis().temp_size_in_bytes
        return memory, len(lowered.as_text().splitlines())

    few, many = compiled(8), compiled(256)
    assert many[0] < 1.05 * few[0]
    assert many[1] == few[1]
