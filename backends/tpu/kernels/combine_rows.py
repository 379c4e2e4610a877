"""Back from the experts' rows to tokens: each token's rows are fetched and added.

Never a scatter-add: every sum has one fixed order, so reruns are equal bit by bit. No
row is written anywhere between its expert and its token.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from backends.tpu.kernels.chunks import to_column
from backends.tpu.kernels.copies import fetch_ahead
from backends.tpu.kernels.result_type import result_type
from backends.tpu.kernels.row_blocks import CORES
from backends.tpu.kernels.row_plan import CHOICES, RowPlan
from backends.tpu.kernels.rows import INTERPRET, VMEM_LIMIT
from backends.tpu.kernels.words import unpack

COMBINED_TOKENS = 64  # tokens of one step

Arrays = tuple[jax.Array, ...]


def combine_rows(
    row_space: jax.Array,
    plan: RowPlan,
    dtype: Any,
    gates: jax.Array | None = None,
) -> jax.Array:
    """[T, D] of `dtype`: the sum over k of `gates[t, k]` (or 1) times a choice's row.

    Dropped choices contribute nothing, whatever their gate. Sums in float32, in the
    order of k. A row space of uint32 is words of bfloat16.
    """
    tokens = plan.kept.shape[0]
    held = row_space.shape[1]
    width = 2 * held if row_space.dtype == jnp.uint32 else held
    per_core = pl.cdiv(pl.cdiv(tokens, COMBINED_TOKENS), CORES)
    rows = COMBINED_TOKENS * CHOICES

    def kernel(first: Any, following: Any, kept: Any, *refs: Any) -> None:
        *scales, source, out, buffers, arrived = refs
        m = pl.program_id(1)
        every = jnp.int32(rows)
        slot = fetch_ahead(
            source,
            buffers,
            arrived,
            m,
            jnp.int32(per_core),
            (first, following),
            (every, every),
        )
        total = jnp.zeros(out.shape, jnp.float32)
        for k in range(CHOICES):
            found = buffers[slot, pl.ds(k * COMBINED_TOKENS, COMBINED_TOKENS), :]
            values = unpack(found) if found.dtype == jnp.uint32 else found
            for scale in scales:
                values = values * to_column(scale[0, k : k + 1, :])
            total += jnp.where(to_column(kept[0, k : k + 1, :]) > 0, values, 0)
        out[...] = total.astype(out.dtype)

    def at(step: Any) -> pl.BlockSpec:
        last = per_core * CORES - 1
        return pl.BlockSpec(
            (1, 1, rows),
            lambda h, m: (jnp.minimum(h * per_core + step(m), last), 0, 0),
            memory_space=pltpu.SMEM,
        )

    steps = per_core * CORES
    places = by_choice(plan.sorted_row, steps).reshape(steps, 1, rows)
    kept = by_choice(plan.kept.astype(jnp.float32), steps)
    scales = () if gates is None else (by_choice(gates.astype(jnp.float32), steps),)
    line = pl.BlockSpec(
        (1, CHOICES, COMBINED_TOKENS), lambda h, m: (h * per_core + m, 0, 0)
    )
    made: jax.Array = pl.pallas_call(
        kernel,
        grid=(CORES, per_core),
        in_specs=[
            at(lambda m: 0),
            at(lambda m: m + 1),
            line,
            *(line for _ in scales),
            pl.BlockSpec(memory_space=pl.ANY),
        ],
        out_specs=pl.BlockSpec(
            (COMBINED_TOKENS, width), lambda h, m: (h * per_core + m, 0)
        ),
        out_shape=result_type(
            (steps * COMBINED_TOKENS, width), dtype, places, row_space, *scales
        ),
        scratch_shapes=[
            pltpu.VMEM((2, rows, held), row_space.dtype),
            pltpu.SemaphoreType.DMA((2,)),
        ],
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "arbitrary"),
            vmem_limit_bytes=VMEM_LIMIT,
            disable_bounds_checks=True,  # checks cost as much as the copies
        ),
        interpret=INTERPRET,
        name="combine_rows",
    )(places, places, kept, *scales, row_space)
    return made[:tokens]


def by_choice(table: jax.Array, steps: int) -> jax.Array:
    """[steps, K, COMBINED_TOKENS] from [T, K]: a step's tokens, choice by choice."""
    missing = steps * COMBINED_TOKENS - table.shape[0]
    padded = jnp.pad(table, ((0, missing), (0, 0)))
    return padded.reshape(steps, COMBINED_TOKENS, CHOICES).swapaxes(1, 2)
