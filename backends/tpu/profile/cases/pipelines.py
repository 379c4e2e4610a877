"""Pipelines between HBM and VMEM: the pallas-tpu-tutorial's chapter 2, on TPU v4.

`y = 2 x + 1` over f32[32768, 128], tile by tile, several passes over the same array.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu


def affine(x: Any, *, rows: int, passes: int, reads: int, writes: int) -> Any:
    """Tiles of `rows`, with `reads` input and `writes` output buffers (1 or 2)."""
    tiles = x.shape[0] // rows

    def body(x: Any, y: Any, held: Any, made: Any, read: Any, written: Any) -> None:
        def load(step: Any) -> Any:
            part = x.at[pl.ds(pl.multiple_of(step % tiles * rows, rows), rows), :]
            slot = step % reads
            return pltpu.make_async_copy(part, held.at[slot], read.at[slot])

        def store(step: Any) -> Any:
            part = y.at[pl.ds(pl.multiple_of(step % tiles * rows, rows), rows), :]
            slot = step % writes
            return pltpu.make_async_copy(made.at[slot], part, written.at[slot])

        def step(i: Any, carry: None) -> None:
            if reads == 1:
                load(i).start()
            load(i).wait()
            if reads > 1:
                pl.when(i + 1 < steps)(load(i + 1).start)
            if writes > 1:
                pl.when(i >= writes)(store(i - writes).wait)
            made[i % writes] = held[i % reads] * 2.0 + 1.0
            store(i).start()
            if writes == 1:
                store(i).wait()

        steps = tiles * passes
        if reads > 1:
            load(0).start()
        lax.fori_loop(0, steps, step, None)
        for left in range(writes if writes > 1 else 0):
            store(steps - writes + left).wait()

    space = pl.BlockSpec(memory_space=pl.ANY)
    return pl.pallas_call(
        body,
        in_specs=[space],
        out_specs=space,
        out_shape=jax.ShapeDtypeStruct(x.shape, x.dtype),
        scratch_shapes=[
            pltpu.VMEM((reads, rows, x.shape[1]), jnp.float32),
            pltpu.VMEM((writes, rows, x.shape[1]), jnp.float32),
            pltpu.SemaphoreType.DMA((reads,)),
            pltpu.SemaphoreType.DMA((writes,)),
        ],
    )(x)
