"""Whether a cache fits, asked before it is made."""

import os

import jax
import jax.numpy as jnp

from glam.model.config import Config
from ir.errors import BadArgument


def cache_bytes(config: Config, rows: int, slots: int) -> int:
    """Bytes of the keys and values of `rows` rows of `slots` tokens, all layers."""
    element = jnp.dtype(config.activation_dtype).itemsize
    width = config.heads * config.head
    return 2 * config.layers * rows * slots * width * element


def check_cache(config: Config, rows: int, slots: int) -> None:
    """Refuse a cache larger than the memory of this machine; raises `BadArgument`.

    An accelerator's own memory is not asked: it says so itself when it is full.
    """
    if jax.default_backend() != "cpu":
        return
    need = cache_bytes(config, rows, slots)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if need > memory:
        raise BadArgument(
            reason=f"keys and values of {rows} rows of {slots:,} tokens take "
            f"{need / 2**30:,.1f} GiB, and this machine has {memory / 2**30:,.1f}: "
            "generate fewer tokens, or fewer prompts at a time"
        )
