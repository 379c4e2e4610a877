"""A small row space for kernels, and the constants that emission would set for it."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np

from backends.tpu.kernels import (
    chunks,
    combine_rows,
    fetch,
    row_blocks,
    row_plan,
    rows,
    sums,
    token_words,
)
from backends.tpu.kernels.words import as_words

EXPERTS, TOKENS, CHOICES, TILE, CHUNK = 3, 20, 2, 32, 16
INNER, COLUMNS = 512, 256
STEP = 8  # tokens that are combined in a step
_CONSTANTS = {
    "EXPERTS": EXPERTS,
    "CHOICES": CHOICES,
    "ROWS": TOKENS * CHOICES,
    "TILE_ROWS": TILE,
    "CHUNK_ROWS": CHUNK,
    "COMBINED_TOKENS": STEP,
}
_MODULES = (chunks, combine_rows, fetch, row_blocks, row_plan, rows, sums, token_words)


def set_constants(monkeypatch, cores=1, interpret=True):
    """Set them in every kernel's module, until the test is over."""
    for module in _MODULES:
        for name, value in (
            _CONSTANTS | {"CORES": cores, "INTERPRET": interpret}
        ).items():
            if hasattr(module, name):
                monkeypatch.setattr(module, name, value)


@cache
def routed():
    """Choices without the second expert, their plan and the tokens; made once.

    The constants must be set, and no function be traced.
    """
    ids = np.random.default_rng(0).choice([-1, 0, 2], size=(TOKENS, CHOICES))
    plan = jax.jit(row_plan.row_plan)(jnp.asarray(ids, jnp.int32))
    x = jax.random.normal(jax.random.key(0), (TOKENS, INNER)).astype(jnp.bfloat16)
    return ids, plan, x


def two_products(plan, x, blocks, fetches, adds, rows_stay, narrow=False):
    """Rows by two matrices of their expert; the sum, its sum over columns, matrices.

    Matrices are bfloat16, or int8 if they are `narrow`.
    """
    keys, shape = jax.random.split(jax.random.key(1)), (EXPERTS, INNER, COLUMNS)
    weights = tuple(
        jax.random.randint(key, shape, -128, 128).astype(jnp.int8)
        if narrow
        else jax.random.normal(key, shape).astype(jnp.bfloat16)
        for key in keys
    )
    gathered = () if fetches else (fetch.fetch_tokens(x, plan),)
    words = (as_words(x),) if fetches else ()
    made, total = rows.grouped_rows(
        plan,
        rows.Fetched(words, gathered, weights=weights),
        transposed=(False, False),
        results=((COLUMNS, jnp.float32), (1, jnp.float32)),
        blocks=blocks,
        prologue=lambda inner, numbers: (inner[0], inner[0]),
        epilogue=lambda totals, columns, numbers, biases: (sum(totals), sum(totals)),
        rows_stay=rows_stay,
        adds=adds,
    )
    return made, total, weights


def products_of_rows(plan, x, blocks, fetches, window):
    """For each expert the sum of its rows' outer products; and the right rows."""
    right = jax.random.normal(jax.random.key(2), (plan.flat.size, COLUMNS))
    right = right.astype(jnp.bfloat16)
    made = sums.grouped_sums(
        plan,
        sums.Summed(
            left_tokens=(as_words(x),) if fetches else (),
            left=() if fetches else (x[plan.flat // CHOICES],),
            right=(right,),
        ),
        widths=(INNER, COLUMNS),
        dtype=jnp.float32,
        blocks=blocks,
        window=window,
    )
    return made, right
