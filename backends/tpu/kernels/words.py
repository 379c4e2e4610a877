"""Rows of bfloat16 as words of 32 bits, two columns a word.

Two rows of bfloat16 share every sublane, so no DMA can move one row. As words a row
stands alone: word w of a block of N columns holds column w (low half) and column
w + N/2 (high half).
"""

import jax
import jax.numpy as jnp
from jax import lax

HIGH = 0xFFFF0000  # the half of a word that is a bfloat16's place in a float32


def pack(values: jax.Array) -> jax.Array:
    """uint32[R, N / 2]: the words of a block [R, N], rounded to bfloat16."""
    exact = values.astype(jnp.bfloat16).astype(jnp.float32)
    bits = lax.bitcast_convert_type(exact, jnp.uint32)
    half = values.shape[1] // 2
    return (bits[:, :half] >> 16) | bits[:, half:]


def unpack(words: jax.Array) -> jax.Array:
    """float32[R, N]: the block whose words are uint32[R, N / 2]."""
    low = lax.bitcast_convert_type(words << 16, jnp.float32)
    high = lax.bitcast_convert_type(words & jnp.uint32(HIGH), jnp.float32)
    return jnp.concatenate([low, high], axis=1)


def as_words(values: jax.Array) -> jax.Array:
    """What a DMA can fetch rows of: words for bfloat16, float32 as it is."""
    return pack(values) if values.dtype == jnp.bfloat16 else values


def from_words(words: jax.Array) -> jax.Array:
    """The values of `as_words`, in their own dtype."""
    if words.dtype == jnp.uint32:
        return unpack(words).astype(jnp.bfloat16)
    return words
