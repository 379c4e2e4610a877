"""Pipelined matmuls: the JAX guide's on TPU v5e, the pallas-tpu-tutorial's on v4."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu


def _guide(a: Any, b: Any, blocks: tuple[int, int, int], form: str = "") -> Any:
    bm, bk, bn = blocks
    flipped = form == "transposed"
    m, k = a.shape
    n = b.shape[0] if flipped else b.shape[1]
    contracted = (((1,), (1,)), ((), ())) if flipped else (((1,), (0,)), ((), ()))

    def body(a: Any, b: Any, o: Any, total: Any) -> None:
        @pl.when(pl.program_id(2) == 0)
        def _() -> None:
            total[...] = jnp.zeros_like(total)

        total[...] += jax.lax.dot_general(
            a[...], b[...], contracted, preferred_element_type=jnp.float32
        )

        @pl.when(pl.program_id(2) == k // bk - 1)
        def _() -> None:
            done = jax.nn.relu(total[...]) if form == "relu" else total[...]
            o[...] = done.astype(o.dtype)

    second = (
        pl.BlockSpec((bn, bk), lambda i, j, k: (j, k))
        if flipped
        else pl.BlockSpec((bk, bn), lambda i, j, k: (k, j))
    )
    return pl.pallas_call(
        body,
        grid=(m // bm, n // bn, k // bk),
        in_specs=[pl.BlockSpec((bm, bk), lambda i, j, k: (i, k)), second],
        out_specs=pl.BlockSpec((bm, bn), lambda i, j, k: (i, j)),
        out_shape=jax.ShapeDtypeStruct((m, n), a.dtype),
        scratch_shapes=[pltpu.VMEM((bm, bn), jnp.float32)],
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "parallel", "arbitrary")
        ),
    )(a, b)


_SMALL = (128, 128, 128)
_LARGE = (512, 1024, 1024)


def guide_small(a: Any, b: Any) -> Any:
    """The guide's matmul with blocks of 128."""
    return _guide(a, b, _SMALL)


def guide_large(a: Any, b: Any) -> Any:
    """The guide's matmul with blocks 512, 1024, 1024."""
    return _guide(a, b, _LARGE)


def guide_small_transposed(a: Any, b: Any) -> Any:
    """The right operand transposed, blocks of 128."""
    return _guide(a, b, _SMALL, "transposed")


def guide_large_transposed(a: Any, b: Any) -> Any:
    """The right operand transposed, blocks 512, 1024, 1024."""
    return _guide(a, b, _LARGE, "transposed")


def guide_small_relu(a: Any, b: Any) -> Any:
    """With relu in the epilogue, blocks of 128."""
    return _guide(a, b, _SMALL, "relu")


def guide_large_relu(a: Any, b: Any) -> Any:
    """With relu in the epilogue, blocks 512, 1024, 1024."""
    return _guide(a, b, _LARGE, "relu")


def _panels(a: Any, b: Any, chunk: int) -> Any:
    m, k = a.shape
    n = b.shape[1]

    def body(a: Any, b: Any, o: Any) -> None:
        for i in range(m // chunk):
            rows = slice(i * chunk, (i + 1) * chunk)
            o[rows, :] = jnp.dot(a[rows, :], b[...], preferred_element_type=jnp.float32)

    return pl.pallas_call(
        body,
        grid=(n // 256,),
        in_specs=[
            pl.BlockSpec((m, k), lambda j: (0, 0)),
            pl.BlockSpec((k, 256), lambda j: (0, j)),
        ],
        out_specs=pl.BlockSpec((m, 256), lambda j: (0, j)),
        out_shape=jax.ShapeDtypeStruct((m, n), jnp.float32),
    )(a, b)


def panels_256(a: Any, b: Any) -> Any:
    """One core's rows against panels of 256 columns, 256 rows a product."""
    return _panels(a, b, 256)


def _staged(a: Any, b: Any, panel: int, chunk: int) -> Any:
    m, k = a.shape
    n = b.shape[1]

    def body(a: Any, b: Any, o: Any, held: Any, flags: Any) -> None:
        panels = [
            pltpu.make_async_copy(
                a.at[pl.ds(i * panel, panel)],
                held.at[pl.ds(i * panel, panel)],
                flags.at[i],
            )
            for i in range(m // panel)
        ]

        def product(i: int, size: int) -> None:
            rows = slice(i * size, (i + 1) * size)
            o[rows, :] = jnp.dot(
                held[rows, :], b[...], preferred_element_type=jnp.float32
            )

        @pl.when(pl.program_id(0) == 0)
        def _() -> None:
            panels[0].start()
            for i, copy in enumerate(panels):
                for following in panels[i + 1 : i + 2]:
                    following.start()
                copy.wait()
                product(i, panel)

        @pl.when(pl.program_id(0) > 0)
        def _() -> None:
            for i in range(m // chunk):
                product(i, chunk)

    return pl.pallas_call(
        body,
        grid=(n // 256,),
        in_specs=[
            pl.BlockSpec(memory_space=pl.ANY),
            pl.BlockSpec((k, 256), lambda j: (0, j)),
        ],
        out_specs=pl.BlockSpec((m, 256), lambda j: (0, j)),
        out_shape=jax.ShapeDtypeStruct((m, n), jnp.float32),
        scratch_shapes=[
            pltpu.VMEM((m, k), a.dtype),
            pltpu.SemaphoreType.DMA((m // panel,)),
        ],
    )(a, b)


def staged_256(a: Any, b: Any) -> Any:
    """The left rows fetched in panels of 256, each multiplied when it is there."""
    return _staged(a, b, 256, 256)


def staged_512(a: Any, b: Any) -> Any:
    """The same, and products of 512 rows once all of them are there."""
    return _staged(a, b, 256, 512)
