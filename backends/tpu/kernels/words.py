"""Rows of bfloat16 as words of 32 bits, two columns a word.

Two rows of bfloat16 share every sublane, so no DMA can move one row. As words a row
stands alone. Words lie in groups of 256 columns, so that a block of columns is a block
of words: word w of a group holds its column w (low half) and w + 128 (high half).
"""

import jax
import jax.numpy as jnp
from jax import lax

HIGH = 0xFFFF0000  # the half of a word that is a bfloat16's place in a float32
GROUP_WORDS = 128  # a row of lanes


def pack(values: jax.Array) -> jax.Array:
    """uint32[R, N / 2]: the words of a block [R, N], rounded to bfloat16."""
    bits = bits_of(values)
    lanes = [bits[:, i : i + GROUP_WORDS] for i in range(0, bits.shape[1], GROUP_WORDS)]
    pairs = zip(lanes[::2], lanes[1::2], strict=True)
    return jnp.concatenate([(low >> 16) | high for low, high in pairs], axis=1)


def unpack(words: jax.Array) -> jax.Array:
    """float32[R, N]: the block whose words are uint32[R, N / 2]."""
    low = lax.bitcast_convert_type(words << 16, jnp.float32)
    high = lax.bitcast_convert_type(words & jnp.uint32(HIGH), jnp.float32)
    starts = range(0, words.shape[1], GROUP_WORDS)
    halves = [half[:, i : i + GROUP_WORDS] for i in starts for half in (low, high)]
    return jnp.concatenate(halves, axis=1)


def as_words(values: jax.Array) -> jax.Array:
    """What a DMA can fetch rows of: words for bfloat16, float32 as it is."""
    if values.dtype != jnp.bfloat16:
        return values
    grouped = bits_of(values).reshape(values.shape[0], -1, 2, GROUP_WORDS)
    return ((grouped[:, :, 0] >> 16) | grouped[:, :, 1]).reshape(values.shape[0], -1)


def from_words(words: jax.Array) -> jax.Array:
    """The values of `as_words`, in their own dtype."""
    if words.dtype == jnp.uint32:
        return unpack(words).astype(jnp.bfloat16)
    return words


def bits_of(values: jax.Array) -> jax.Array:
    """The bits of a value rounded to bfloat16: the high half of a word, and zeros."""
    exact = values.astype(jnp.bfloat16).astype(jnp.float32)
    return lax.bitcast_convert_type(exact, jnp.uint32)
