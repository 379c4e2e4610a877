"""Sampling from a batch of prompts, token by token."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from glam.generate.cache import Cache, advance, empty, prefill
from glam.generate.choose import NONE, choose
from glam.generate.memory import check_cache
from glam.generate.prompts import Prompts, packed, rounded, served
from glam.generate.settings import Completion, Settings
from glam.model.config import Config
from glam.model.parameters import Params
from ir.errors import BadArgument


@dataclass
class _Row:
    tokens: list[int] = field(default_factory=list)
    log_probability: float = 0.0
    ended: bool = False


def generate(
    config: Config,
    params: Params,
    prompts: Prompts,
    settings: Settings | None = None,
    first: int = 0,
) -> list[Completion]:
    """Continue each prompt, a list of token ids.

    Row r draws the token at position p with a key of (seed, r, p), rows being counted
    from `first`: the same call gives the same tokens, and so do batches of the same
    rows. Raises `BadArgument`.
    """
    settings = settings or Settings()
    config = served(config)
    rows = [_Row() for _ in prompts]
    tokens, lengths = packed(config, prompts)
    for _ in _steps(config, params, tokens, lengths, settings, rows, first):
        continue  # the rows have the tokens
    return [Completion(tuple(r.tokens), r.log_probability, r.ended) for r in rows]


def stream(
    config: Config, params: Params, prompts: Prompts, settings: Settings | None = None
) -> Iterator[list[int | None]]:
    """As `generate`, one step at a time: a token of each row, None where one ended.

    Closing the iterator stops. Raises `BadArgument`.
    """
    settings = settings or Settings()
    config = served(config)
    rows = [_Row() for _ in prompts]
    tokens, lengths = packed(config, prompts)
    return _steps(config, params, tokens, lengths, settings, rows)


def _steps(
    config: Config,
    params: Params,
    tokens: np.ndarray,
    lengths: np.ndarray,
    settings: Settings,
    rows: list[_Row],
    first: int = 0,
) -> Iterator[list[int | None]]:
    # What a program depends on: another seed or length needs no compilation.
    rule = replace(settings, tokens=1, seed=0, end=None)
    slots = rounded(int(lengths.max()) + settings.tokens)
    check_cache(config, len(rows), slots)
    keys = jax.vmap(partial(jax.random.fold_in, jax.random.key(settings.seed)))(
        first + jnp.arange(len(rows))
    )
    chosen, spoken, cache = _first(config, rule, slots, params, tokens, lengths, keys)
    for step in range(settings.tokens):
        told = _record(rows, np.asarray(chosen), np.asarray(spoken), settings.end)
        yield told
        alive = np.array([not row.ended for row in rows])
        if step + 1 == settings.tokens or not alive.any():
            return
        chosen, spoken, cache = _next(
            config, rule, params, cache, chosen, lengths + step, alive, keys
        )


@partial(jax.jit, static_argnums=(0, 1, 2))
def _first(
    config: Config,
    settings: Settings,
    slots: int,
    params: Params,
    tokens: jax.Array,
    lengths: jax.Array,
    keys: jax.Array,
) -> tuple[jax.Array, jax.Array, Cache]:
    cache = empty(config, len(tokens), slots)
    logits, cache = prefill(config, params, cache, tokens, lengths)
    return *_chosen(settings, logits, keys, lengths), cache


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=3)
def _next(
    config: Config,
    settings: Settings,
    params: Params,
    cache: Cache,
    tokens: jax.Array,
    positions: jax.Array,
    alive: jax.Array,
    keys: jax.Array,
) -> tuple[jax.Array, jax.Array, Cache]:
    logits, cache = advance(config, params, cache, tokens, positions, alive)
    return *_chosen(settings, logits, keys, positions + 1), cache


def _chosen(
    settings: Settings, logits: jax.Array, keys: jax.Array, positions: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The next tokens, and their log-probabilities."""
    own = jax.vmap(jax.random.fold_in)(keys, positions)
    chosen = choose(settings, logits, own)
    spoken = jax.nn.log_softmax(logits, axis=-1)
    index = jnp.maximum(chosen, 0)[:, None]
    return chosen, jnp.take_along_axis(spoken, index, axis=-1)[:, 0]


def _record(
    rows: list[_Row], chosen: np.ndarray, spoken: np.ndarray, end: int | None
) -> list[int | None]:
    """Add a step's tokens to the rows that go on."""
    told: list[int | None] = []
    for number, row in enumerate(rows):
        token = int(chosen[number])
        if row.ended:
            told.append(None)
            continue
        if token == NONE:
            reason = (
                f"the logits of prompt {number} hold NaN after "
                f"{len(row.tokens)} tokens: the parameters are damaged"
            )
            raise BadArgument(reason=reason)
        row.log_probability += float(spoken[number])
        row.ended = token == end
        told.append(None if row.ended else token)
        if not row.ended:
            row.tokens.append(token)
    return told
