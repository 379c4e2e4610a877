"""Loops that draw random numbers: the pallas-tpu-tutorial's chapter 4, on TPU v4.

Every step draws one block of numbers and adds its words to those before by exclusive
or, so that no draw is without use; the block is copied to HBM at the end.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

_TINY = 2.0**-126


def draws(seed: Any, *, form: str, rows: int, steps: int) -> Any:
    """`steps` draws of [rows, 128] by `form`, as u32 words; `seed` is s32[1]."""
    shape = (rows, 128)
    draw = _FORMS[form]

    def body(seed: Any, o: Any) -> None:
        pltpu.prng_seed(seed[0])

        def step(_: Any, carry: None) -> None:
            o[...] = o[...] ^ pltpu.bitcast(draw(shape), jnp.uint32)

        lax.fori_loop(0, steps, step, None)

    return pl.pallas_call(
        body,
        in_specs=[pl.BlockSpec(memory_space=pltpu.SMEM)],
        out_specs=pl.BlockSpec(memory_space=pltpu.VMEM),
        out_shape=jax.ShapeDtypeStruct(shape, jnp.uint32),
    )(seed)


def _bits(shape: tuple[int, ...]) -> Any:
    return pltpu.bitcast(pltpu.prng_random_bits(shape), jnp.uint32)


def _uniform(shape: tuple[int, ...]) -> Any:
    return pltpu.stateful_uniform(shape, jnp.float32)


def _bernoulli(shape: tuple[int, ...]) -> Any:
    return (_bits(shape) < jnp.uint32(0x4CCCCCCC)).astype(jnp.uint32)


def _exponential(shape: tuple[int, ...]) -> Any:
    return -jnp.log(1.0 - _uniform(shape))


def _gumbel(shape: tuple[int, ...]) -> Any:
    return -jnp.log(-jnp.log(jnp.maximum(_uniform(shape), _TINY)))


def _normal(shape: tuple[int, ...]) -> Any:
    return pltpu.stateful_normal(shape, jnp.float32)


_FORMS: dict[str, Callable[[tuple[int, ...]], Any]] = {
    "bits": _bits,
    "uniform": _uniform,
    "bernoulli": _bernoulli,
    "exponential": _exponential,
    "gumbel": _gumbel,
    "normal": _normal,
}
