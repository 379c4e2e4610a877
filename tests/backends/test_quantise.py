"""Float parameters to one byte an element, as emitted modules do it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from backends.quantise import quantise_channels
from ir.interpret.kernel import quantise


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_int8_is_what_the_interpreter_defines(axis, dtype):
    """In float32 a tie may fall to the other side: by one step, and seldom."""
    w = jax.random.normal(jax.random.key(0), (3, 40, 24)).astype(dtype)
    stored, scale = jax.jit(quantise_channels, static_argnums=(1, 2))(w, axis, "int8")
    truth, scales = quantise(np.asarray(w, np.float64), axis=axis, stored="int8")
    assert stored.dtype == jnp.int8
    assert scale.dtype == jnp.float32
    np.testing.assert_allclose(scale, scales, rtol=1e-6)
    off = np.abs(np.asarray(stored, np.int32) - truth)
    assert off.max() <= 1
    assert off.mean() < 0.01


@pytest.mark.parametrize("axis", [1, 2])
def test_fp8_is_what_the_interpreter_defines(axis):
    w = jax.random.normal(jax.random.key(0), (3, 40, 24))
    stored, scale = quantise_channels(w, axis, "float8_e4m3fn")
    truth, scales = quantise(
        np.asarray(w, np.float64), axis=axis, stored="float8_e4m3fn"
    )
    assert stored.dtype == jnp.float8_e4m3fn
    np.testing.assert_allclose(scale, scales, rtol=1e-6)
    assert np.sum(np.asarray(stored, np.float64) != truth.astype(np.float64)) <= 2


@pytest.mark.parametrize(("stored", "largest"), [("int8", 127), ("float8_e4m3fn", 448)])
def test_the_largest_weight_is_the_largest_number(stored, largest):
    values, scale = quantise_channels(jnp.array([[3.0, -7.0], [-0.1, 1e30]]), 0, stored)
    assert values[0, 0] == largest
    assert values[1, 1] == largest
    assert values[0, 1] == 0
    np.testing.assert_allclose(scale, [3.0 / largest, 1e30 / largest], rtol=1e-6)


@pytest.mark.parametrize("stored", ["int8", "float8_e4m3fn"])
def test_what_has_no_scale_is_zeros_and_spoils_only_its_channel(stored):
    w = jnp.array([[0.0, jnp.nan, jnp.inf, 2.0], [0.0, 1.0, 1.0, -1.0]])
    values, scale = quantise_channels(w, 0, stored)
    assert not values[:, :3].astype(jnp.float32).any()
    assert scale[0] == 0
    assert np.isnan(scale[1])
    assert np.isinf(scale[2])
    assert np.isfinite(scale[3])
