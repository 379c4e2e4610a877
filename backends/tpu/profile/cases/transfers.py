"""Copies between HBM and VMEM and nothing else: chapters 1 to 3 of the tutorial, v4."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu


def transfers(x: Any, *, rows: int, steps: int, form: str) -> Any:
    """`steps` tiles of `rows` by `form`: `read`, `write`, `read write`, `both`, `pair`.

    `read write` waits for the one before it starts the other; `both` reads and writes,
    and `pair` reads twice, at once. x: f32[n, 128].
    """
    tiles = x.shape[0] // rows

    def body(x: Any, y: Any, held: Any, flags: Any) -> None:
        def step(i: Any, carry: None) -> None:
            part = pl.ds(pl.multiple_of(i % tiles * rows, rows), rows)
            other = pl.ds(pl.multiple_of((i + 1) % tiles * rows, rows), rows)
            read = pltpu.make_async_copy(x.at[part, :], held.at[0], flags.at[0])
            write = pltpu.make_async_copy(held.at[1], y.at[part, :], flags.at[1])
            second = pltpu.make_async_copy(x.at[other, :], held.at[1], flags.at[1])
            together = {
                "read": (read,),
                "write": (write,),
                "read write": (read, write),
                "both": (read, write),
                "pair": (read, second),
            }[form]
            for copy in together:
                copy.start()
                if form == "read write":
                    copy.wait()
            for copy in together if form != "read write" else ():
                copy.wait()

        lax.fori_loop(0, steps, step, None)

    space = pl.BlockSpec(memory_space=pl.ANY)
    return pl.pallas_call(
        body,
        in_specs=[space],
        out_specs=space,
        out_shape=jax.ShapeDtypeStruct(x.shape, x.dtype),
        scratch_shapes=[
            pltpu.VMEM((2, rows, x.shape[1]), jnp.float32),
            pltpu.SemaphoreType.DMA((2,)),
        ],
    )(x)


def doubled(x: Any) -> Any:
    """The smallest whole kernel: a block in, `2 x + 1`, the block out."""

    def body(x: Any, y: Any) -> None:
        y[...] = x[...] * 2.0 + 1.0

    space = pl.BlockSpec(memory_space=pltpu.VMEM)
    return pl.pallas_call(
        body,
        in_specs=[space],
        out_specs=space,
        out_shape=jax.ShapeDtypeStruct(x.shape, x.dtype),
    )(x)
