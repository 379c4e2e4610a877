"""Rows of the padded row space, fetched from tokens and from choices."""

import jax

from backends.tpu.kernels.row_plan import CHOICES, RowPlan


def fetch_tokens(x: jax.Array, plan: RowPlan) -> jax.Array:
    """[PLACES, D]: the token of each place; any token where there is no row."""
    return x[plan.flat // CHOICES]


def fetch_choices(values: jax.Array, plan: RowPlan) -> jax.Array:
    """[PLACES, 1]: the number of each place's choice, from [T, K]."""
    return values.reshape(-1, 1)[plan.flat]
