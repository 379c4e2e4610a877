"""Words hold pairs of columns of a group of 256, bit for bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from backends.tpu.kernels import token_words
from backends.tpu.kernels.words import as_words, from_words


@pytest.mark.parametrize("shape", [(5, 256), (40, 512), (33, 768)])
def test_words_of_tokens(shape, monkeypatch):
    monkeypatch.setattr(token_words, "INTERPRET", True)
    monkeypatch.setattr(token_words, "PACKED_VALUES", 16 * 512)
    x = jax.random.normal(jax.random.key(0), shape).astype(jnp.bfloat16)
    words = token_words.token_words(x)
    assert words.dtype == jnp.uint32
    assert words.shape == (shape[0], shape[1] // 2)
    bits = np.asarray(x).view(np.uint16).astype(np.uint32)
    pairs = bits.reshape(shape[0], -1, 2, 128)
    expected = pairs[:, :, 0] | (pairs[:, :, 1] << 16)
    np.testing.assert_array_equal(words, expected.reshape(shape[0], -1))
    np.testing.assert_array_equal(words, as_words(x))
    np.testing.assert_array_equal(from_words(words), x)


def test_float32_stays_as_it_is():
    x = jnp.ones((3, 256), jnp.float32)
    assert token_words.token_words(x) is x
