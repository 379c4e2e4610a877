"""Products of experts on the CPU: float32 sums, whatever the operands' dtypes."""

import jax.numpy as jnp
import numpy as np
import pytest

from backends.cpu.kernels.products import expert_dot


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("width", [5, 6])
@pytest.mark.parametrize("kinds", [("bfloat16", "float32"), ("bfloat16", "bfloat16")])
def test_narrow_rows_are_added_up_in_float32(rows, width, kinds):
    random = np.random.default_rng(0)
    left = jnp.asarray(random.standard_normal((rows, 64)), kinds[0])
    right = jnp.asarray(random.standard_normal((64, width)), kinds[1])
    made = expert_dot(left, right)
    assert made.dtype == jnp.float32
    exact = np.asarray(left, np.float64) @ np.asarray(right, np.float64)
    assert np.linalg.norm(made - exact) < 1e-6 * np.linalg.norm(exact)
