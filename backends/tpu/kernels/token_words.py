"""Tokens as words, so that kernels can fetch rows of them: one pass over the tokens.

As ops of XLA's (`as_words`) the same takes five passes.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from backends.tpu.kernels.chunks import LEAST_ROWS
from backends.tpu.kernels.result_type import result_type
from backends.tpu.kernels.rows import INTERPRET, VMEM_LIMIT
from backends.tpu.kernels.words import GROUP_WORDS, pack

PACKED_VALUES = 2**20  # of one step: 2 MiB in and 2 MiB out, twice


def token_words(values: jax.Array) -> jax.Array:
    """What a DMA can fetch rows of: uint32[T, D / 2] for bfloat16 [T, D].

    D is a multiple of 256. float32 is returned as it is.
    """
    if values.dtype != jnp.bfloat16:
        return values
    tokens, width = values.shape
    most = max(PACKED_VALUES // width // LEAST_ROWS, 1)
    chunks = min(most, pl.cdiv(tokens, LEAST_ROWS))

    def kernel(rows: Any, out: Any) -> None:
        def chunk(number: jax.Array, _: None) -> None:
            first = pl.multiple_of(number * LEAST_ROWS, LEAST_ROWS)
            at = pl.ds(first, LEAST_ROWS)
            for group in range(width // (2 * GROUP_WORDS)):
                words = pl.ds(group * GROUP_WORDS, GROUP_WORDS)
                columns = pl.ds(group * 2 * GROUP_WORDS, 2 * GROUP_WORDS)
                out[at, words] = pack(rows[at, columns])

        lax.fori_loop(0, chunks, chunk, None)

    step = chunks * LEAST_ROWS
    made: jax.Array = pl.pallas_call(
        kernel,
        grid=(pl.cdiv(tokens, step),),
        in_specs=[pl.BlockSpec((step, width), lambda m: (m, 0))],
        out_specs=pl.BlockSpec((step, width // 2), lambda m: (m, 0)),
        out_shape=result_type((tokens, width // 2), jnp.uint32, values),
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel",), vmem_limit_bytes=VMEM_LIMIT
        ),
        interpret=INTERPRET,
        name="token_words",
    )(values)
    return made
