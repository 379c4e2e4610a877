"""Rows of the padded row space, fetched from tokens and from choices."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from backends.tpu.kernels.chunks import CHUNK_ROWS
from backends.tpu.kernels.copies import fetch_ahead
from backends.tpu.kernels.result_type import result_type
from backends.tpu.kernels.row_blocks import CORES, tile_of
from backends.tpu.kernels.row_plan import CHOICES, TILE_ROWS, RowPlan
from backends.tpu.kernels.rows import INTERPRET, VMEM_LIMIT
from backends.tpu.kernels.words import GROUP_WORDS, as_words, from_words


def fetch_tokens(x: jax.Array, plan: RowPlan) -> jax.Array:
    """[PLACES, D]: the token of each place; undefined where there is no row.

    A kernel copies the rows that there are, a chunk of them a step; XLA, which takes
    rows that are no whole lanes of words, gathers a row for every place.
    """
    source = as_words(x) if can_copy(x.shape[1], x.dtype) else None
    if source is None:
        return x[plan.flat // CHOICES]
    parts = TILE_ROWS // CHUNK_ROWS
    per_core = pl.cdiv(jnp.maximum(plan.tiles[0], 1), CORES)

    def window(h: Any, m: Any, filled: Any, told: Any) -> tuple[jax.Array, jax.Array]:
        """The chunk of the row space of a step, and how many rows are new in it."""
        tile, part = tile_of(h, m // parts, told), lax.rem(m, parts)
        rows = jnp.clip(filled[tile] - part * CHUNK_ROWS, 0, CHUNK_ROWS)
        last = jnp.maximum(filled[tile] - 1, 0) // CHUNK_ROWS
        return tile * parts + jnp.minimum(part, last), rows

    def kernel(filled: Any, told: Any, *refs: Any) -> None:
        first, following, source, out, buffers, arrived = refs
        h, m = pl.program_id(0), pl.program_id(1)
        rows, later = (window(h, m + step, filled, told)[1] for step in (0, 1))
        index, steps = (first, following), told[1] * parts
        slot = fetch_ahead(source, buffers, arrived, m, steps, index, (rows, later))

        @pl.when(rows > 0)
        def _() -> None:
            out[...] = from_words(buffers[slot])

    def tokens(step: int) -> pl.BlockSpec:
        return pl.BlockSpec(
            (1, 1, CHUNK_ROWS),
            lambda h, m, f, n: (window(h, m * step + step, f, n)[0], 0, 0),
            memory_space=pltpu.SMEM,
        )

    index = (plan.flat // CHOICES).reshape(-1, 1, CHUNK_ROWS)
    made: jax.Array = pl.pallas_call(
        kernel,
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=2,
            grid=(CORES, per_core * parts),
            in_specs=[tokens(0), tokens(1), pl.BlockSpec(memory_space=pl.ANY)],
            out_specs=pl.BlockSpec(
                (CHUNK_ROWS, x.shape[1]), lambda h, m, f, n: (window(h, m, f, n)[0], 0)
            ),
            scratch_shapes=[
                pltpu.VMEM((2, CHUNK_ROWS, source.shape[1]), source.dtype),
                pltpu.SemaphoreType.DMA((2,)),
            ],
        ),
        out_shape=result_type((plan.flat.size, x.shape[1]), x.dtype, index, source),
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "arbitrary"),
            vmem_limit_bytes=VMEM_LIMIT,
            disable_bounds_checks=True,  # checks cost as much as the copies
        ),
        interpret=INTERPRET,
        name="fetch_tokens",
    )(plan.filled, jnp.stack([plan.tiles[0], per_core]), index, index, source)
    return made


def can_copy(width: int, dtype: Any) -> bool:
    """Whether a kernel copies such rows: whole lanes of words, that fit in VMEM."""
    size = {jnp.dtype(jnp.bfloat16): 2, jnp.dtype(jnp.float32): 4}.get(dtype, 0)
    held = CHUNK_ROWS * width * (4 * size + 4)
    return size > 0 and width * size % (4 * GROUP_WORDS) == 0 and held <= VMEM_LIMIT


def fetch_choices(values: jax.Array, plan: RowPlan) -> jax.Array:
    """[PLACES, 1]: the number of each place's choice, from [T, K]; 0 in padding."""
    return plan.at_places(values.reshape(-1))[:, None]
