"""Log-likelihoods of token ids, many at a time."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from glam.generate.prompts import rounded, served
from glam.model import Config, forward
from glam.model.parameters import Params
from ir.errors import BadArgument


class Span(NamedTuple):
    """What is scored: the last `scored` of `ids`, each given all ids before it."""

    ids: Sequence[int]
    scored: int


class Score(NamedTuple):
    """The sum of log-probabilities, and whether each token was the likeliest one."""

    log_likelihood: float
    greedy: bool


def score(
    config: Config,
    params: Params,
    spans: Sequence[Span],
    batch: int,
    watch: Callable[[int], None] = lambda done: None,
) -> list[Score]:
    """Score every span, `batch` of them at a time, in order of their lengths.

    A span has at least one id before the first that is scored. Nothing is dropped while
    scoring, so neither batch nor padding changes a score (but for the last bits, where
    XLA multiplies another number of rows in another order). `watch` hears how many are
    done. Raises `BadArgument` where a log-likelihood is NaN.
    """
    config = served(config)
    found: dict[int, Score] = {}
    order = sorted(range(len(spans)), key=lambda i: -len(spans[i].ids))
    for first in range(0, len(order), batch):
        chosen = order[first : first + batch]
        sums, greedy = _batch(config, params, [spans[i] for i in chosen], batch)
        for place, i in enumerate(chosen):
            found[i] = Score(float(sums[place]), bool(greedy[place]))
        watch(len(chosen))
    if any(np.isnan(one.log_likelihood) for one in found.values()):
        reason = "a log-likelihood is NaN: the model's parameters are damaged"
        raise BadArgument(reason=reason)
    return [found[i] for i in range(len(spans))]


def _batch(
    config: Config, params: Params, spans: Sequence[Span], batch: int
) -> tuple[np.ndarray, np.ndarray]:
    longest = rounded(max(len(span.ids) for span in spans) - 1) + 1
    tokens = np.zeros((batch, longest), np.int32)
    ends, firsts = np.zeros(batch, np.int32), np.zeros(batch, np.int32)
    for row, span in enumerate(spans):
        tokens[row, : len(span.ids)] = span.ids
        ends[row], firsts[row] = len(span.ids), len(span.ids) - span.scored
    sums, greedy = _scores(config, params, tokens, firsts, ends)
    return np.asarray(sums), np.asarray(greedy)


@partial(jax.jit, static_argnums=0)
def _scores(
    config: Config,
    params: Params,
    tokens: jax.Array,
    firsts: jax.Array,
    ends: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Sums float32 [batch] over tokens [batch, length], first to end; greedy."""
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    place = jnp.arange(1, tokens.shape[1])[None]
    segments = (place < ends[:, None]).astype(jnp.int32)
    logits, _ = forward(config, params, inputs, segments)
    chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    spoken = chosen - jax.nn.logsumexp(logits, axis=-1)
    counted = (place >= firsts[:, None]) & (place < ends[:, None])
    best = jnp.argmax(logits, axis=-1) == targets
    sums = jnp.sum(jnp.where(counted, spoken, 0.0), axis=-1)
    return sums, jnp.all(best | ~counted, axis=-1)
