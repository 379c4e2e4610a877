"""Beam search over a batch of prompts (width 4 in the paper's evaluation)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from glam.generate.cache import Cache, advance, empty, prefill
from glam.generate.memory import check_cache
from glam.generate.prompts import Prompts, packed, rounded, served
from glam.generate.settings import Completion, Search
from glam.model.config import Config
from glam.model.parameters import Params
from ir.errors import BadArgument


@dataclass(frozen=True)
class _Beam:
    """What one beam wrote, its log-probability, and its row among the last ones."""

    tokens: tuple[int, ...] = ()
    total: float = 0.0
    parent: int = 0


@dataclass
class _Hunt:
    """The search of one prompt: beams that go on, and the best one that ended."""

    search: Search
    beams: list[_Beam] = field(default_factory=lambda: [_Beam()])
    best: _Beam | None = None
    over: bool = False

    def step(self, totals: np.ndarray, beams: np.ndarray, tokens: np.ndarray) -> None:
        """Take candidates, best first: ends compete, the others fill the beams."""
        going: list[_Beam] = []
        for total, parent, token in zip(totals, beams, tokens, strict=True):
            if len(going) == self.search.width or not np.isfinite(total):
                break
            before = self.beams[parent].tokens
            if token == self.search.end:
                self._end(_Beam(before, float(total)))
                continue
            going.append(_Beam((*before, int(token)), float(total), int(parent)))
        self.beams = going or self.beams
        self.over = not going or self._settled()

    def _end(self, beam: _Beam) -> None:
        if self.best is None or self.score(beam, True) > self.score(self.best, True):
            self.best = beam

    def _settled(self) -> bool:
        """Whether no beam can do better than the best that ended.

        A total only falls, and the longest length divides it most.
        """
        if self.best is None:
            return False
        bound = self.beams[0].total / self._divisor(self.search.tokens)
        return self.score(self.best, True) >= bound

    def score(self, beam: _Beam, ended: bool) -> float:
        return beam.total / self._divisor(len(beam.tokens) + ended)

    def _divisor(self, length: int) -> float:
        return float(((5 + length) / 6) ** self.search.penalty)

    def completion(self) -> Completion:
        if self.best is not None:
            return Completion(self.best.tokens, self.best.total, True)
        beam = max(self.beams, key=lambda beam: self.score(beam, False))
        return Completion(beam.tokens, beam.total, False)


def beam(
    config: Config, params: Params, prompts: Prompts, search: Search | None = None
) -> list[Completion]:
    """The best completion of each prompt: of those that ended, else of all.

    Raises `BadArgument`.
    """
    search = search or Search()
    config = served(config)
    tokens, lengths = packed(config, prompts)
    width, slots = search.width, rounded(int(lengths.max()) + search.tokens)
    # Choosing parents makes a second cache.
    check_cache(config, 2 * len(prompts) * width, slots)
    hunts = [_Hunt(search) for _ in prompts]
    found, cache = _first(config, width, slots, params, tokens, lengths)
    for step in range(search.tokens):
        _take(hunts, found)
        if step + 1 == search.tokens or all(hunt.over for hunt in hunts):
            break
        positions = np.repeat(lengths + step, width)
        found, cache = _next(
            config, width, params, cache, *_rows(hunts, width), positions
        )
    return [hunt.completion() for hunt in hunts]


def _take(hunts: Sequence[_Hunt], found: Sequence[jax.Array]) -> None:
    totals, beams, tokens = (np.asarray(array) for array in found)
    for number, hunt in enumerate(hunts):
        if hunt.over:
            continue
        if np.isnan(totals[number]).any():
            written = len(hunt.beams[0].tokens)
            reason = (
                f"the logits of prompt {number} hold NaN after {written} tokens: the "
                "parameters are damaged"
            )
            raise BadArgument(reason=reason)
        hunt.step(totals[number], beams[number], tokens[number])


def _rows(
    hunts: Sequence[_Hunt], width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Last tokens, rows of the cache, totals and which rows live, [prompts * width]."""
    count = len(hunts) * width
    tokens, parents = np.zeros(count, np.int32), np.arange(count, dtype=np.int32)
    totals, alive = np.full(count, -np.inf, np.float32), np.zeros(count, bool)
    for number, hunt in enumerate(hunts):
        for place, held in enumerate([] if hunt.over else hunt.beams):
            row = number * width + place
            tokens[row], totals[row] = held.tokens[-1], held.total
            parents[row], alive[row] = number * width + held.parent, True
    return tokens, parents, totals, alive


@partial(jax.jit, static_argnums=(0, 1, 2))
def _first(
    config: Config,
    width: int,
    slots: int,
    params: Params,
    tokens: jax.Array,
    lengths: jax.Array,
) -> tuple[tuple[jax.Array, jax.Array, jax.Array], Cache]:
    """The best candidates after the prompts, and the cache once for each beam."""
    cache = empty(config, len(tokens), slots)
    logits, cache = prefill(config, params, cache, tokens, lengths)
    spread = jax.tree.map(lambda array: jnp.repeat(array, width, axis=1), cache)
    totals = jnp.zeros((len(tokens), 1), jnp.float32)
    return _candidates(logits, totals, width), spread


@partial(jax.jit, static_argnums=(0, 1))
def _next(
    config: Config,
    width: int,
    params: Params,
    cache: Cache,
    tokens: jax.Array,
    parents: jax.Array,
    totals: jax.Array,
    alive: jax.Array,
    positions: jax.Array,
) -> tuple[tuple[jax.Array, jax.Array, jax.Array], Cache]:
    cache = jax.tree.map(lambda array: array[:, parents], cache)
    logits, cache = advance(config, params, cache, tokens, positions, alive)
    return _candidates(logits, totals.reshape(-1, width), width), cache


def _candidates(
    logits: jax.Array, totals: jax.Array, width: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Totals, beams and tokens [prompts, 2 * width] of the best continuations.

    Twice as many as beams: however many end, enough go on. A NaN ranks first.
    """
    prompts, beams = totals.shape
    spoken = jax.nn.log_softmax(logits, axis=-1).reshape(prompts, beams, -1)
    vocabulary = spoken.shape[-1]
    reached = jnp.where(
        jnp.isneginf(totals)[..., None], -jnp.inf, totals[..., None] + spoken
    ).reshape(prompts, -1)
    best, index = jax.lax.top_k(reached, min(2 * width, reached.shape[1]))
    return best, index // vocabulary, index % vocabulary
