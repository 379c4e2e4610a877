"""Log-likelihoods of texts by the float64 oracle, one text at a time."""

import numpy as np

from tests.glam.cli import small_model
from tests.glam.model import oracle, small


def ids(text):
    return [byte + 3 for byte in text.encode()]


def log_likelihood(context, continuation):
    """The sum over the continuation's bytes, and whether each is the likeliest."""
    return of_ids([1, *ids(context)], ids(continuation))


def of_ids(context, continuation):
    row = np.array([context + continuation])
    inputs, targets = row[:, :-1], row[:, 1:]
    sizes = small.oracle_sizes(small_model.CONFIG)
    params = small.for_oracle(small_model.CONFIG, small_model.params())
    _, logits, *_ = oracle.model(sizes, params, inputs, targets, np.ones_like(inputs))
    ours = logits[0, len(context) - 1 :]
    spoken = ours - np.log(np.exp(ours).sum(axis=-1, keepdims=True))
    total = sum(row[token] for row, token in zip(spoken, continuation, strict=True))
    return total, list(ours.argmax(axis=-1)) == continuation
