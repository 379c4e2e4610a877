"""A dense model that XLA compiles in a moment, and what it says of every sequence."""

from functools import cache
from itertools import product

import jax
import numpy as np

from glam.model import Config, forward
from tests.glam.model import small

CONFIG = Config(
    layers=1,
    model=8,
    hidden=8,
    heads=1,
    head=8,
    vocabulary=5,
    sequence=16,
    activation_dtype="float32",
)


def params():
    return small.params(CONFIG, 11)


@cache
def spoken(prompt, length):
    """Log-probabilities [length] of every sequence of tokens after the prompt."""
    after = list(product(range(CONFIG.vocabulary), repeat=length))
    tokens = np.array([(*prompt, *tokens) for tokens in after], np.int32)
    logits, _ = jax.jit(forward, static_argnums=0)(
        CONFIG, params(), tokens, np.ones_like(tokens)
    )
    logs = np.asarray(jax.nn.log_softmax(logits, axis=-1))
    start = len(prompt) - 1
    return {
        row: [logs[index, start + place, token] for place, token in enumerate(row)]
        for index, row in enumerate(after)
    }
