"""Which rows go to which expert: the routing that a ragged kernel is timed under.

All draws are seeded: the same routing gives the same numbers.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ir.errors import BadArgument, nearest

Ints: TypeAlias = npt.NDArray[np.int32]

KINDS = ("balanced", "uniform", "zipf", "one")
_SEED = 20211213
_NEVER = 1e-12


@dataclass(frozen=True)
class Routing:
    """How rows fall on experts.

    `balanced`: the same number for every expert. `uniform`: each row draws its expert.
    `zipf`: so that the i-th most popular expert has a share of 1 / i. `one`: as many
    experts as a token has choices take everything. `recorded`: shares as in `counts`.
    """

    kind: str = "uniform"
    counts: tuple[float, ...] = ()

    def choices(self, tokens: int, k: int, experts: int) -> Ints:
        """int32 [tokens, k]: the experts of every token, none of them twice."""
        if self.kind == "balanced":
            flat = np.arange(tokens * k, dtype=np.int32) % experts
            return flat.reshape(tokens, k)
        if self.kind == "one":
            return np.tile(np.arange(k, dtype=np.int32), (tokens, 1))
        # The k largest of log(share) + Gumbel noise are draws without replacement.
        draws = np.random.default_rng(_SEED)
        noise = draws.gumbel(size=(tokens, experts))
        scores = np.log(np.maximum(self.shares(experts), _NEVER)) + noise
        return np.argsort(-scores, axis=1, kind="stable")[:, :k].astype(np.int32)

    def sizes(self, rows: int, experts: int) -> Ints:
        """int32 [experts]: rows of every expert; they add up to `rows`."""
        if self.kind in ("uniform", "zipf"):
            draws = np.random.default_rng(_SEED)
            found = draws.multinomial(rows, self.shares(experts))
            return found.astype(np.int32)
        exact = self.shares(experts) * rows
        whole = np.floor(exact).astype(np.int32)
        # What rounding left goes to the largest remainders.
        order = np.argsort(whole - exact, kind="stable")
        whole[order[: rows - int(whole.sum())]] += 1
        return whole

    def shares(self, experts: int) -> npt.NDArray[np.float64]:
        """float64 [experts]: each expert's share of the rows; their sum is 1."""
        if self.kind == "recorded":
            return self._recorded(experts)
        if self.kind == "one":
            return np.asarray(np.eye(1, experts)[0])
        if self.kind == "zipf":
            ranks = 1.0 + np.random.default_rng(_SEED).permutation(experts)
            return np.asarray((1 / ranks) / (1 / ranks).sum())
        return np.full(experts, 1 / experts)

    def _recorded(self, experts: int) -> npt.NDArray[np.float64]:
        if len(self.counts) != experts:
            reason = (
                f"the recorded routing has {len(self.counts)} experts and the function "
                f"has {experts}: record one number for each expert"
            )
            raise BadArgument(reason=reason)
        held = np.asarray(self.counts, dtype=np.float64)
        return np.asarray(held / held.sum())


def read_routing(text: str) -> Routing:
    """A kind's name, or a JSON file with one number of rows for each expert."""
    if text in KINDS:
        return Routing(text)
    path = Path(text)
    if path.suffix != ".json":
        known, close = ", ".join(KINDS), nearest(text, list(KINDS))
        reason = (
            f"--routing takes {known} or a .json file of counts, and got "
            f"'{text}'{close}"
        )
        raise BadArgument(reason=reason)
    return Routing("recorded", _counts(path))


def _counts(path: Path) -> tuple[float, ...]:
    try:
        held = json.loads(path.read_text())
    except OSError as error:
        reason = f"--routing {path} cannot be read: {error.strerror or error}"
        raise BadArgument(reason=reason) from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        reason = f"--routing {path} is not a JSON file: {error}"
        raise BadArgument(reason=reason) from None
    wanted = f"--routing {path} must hold a list with one number of rows an expert"
    if not isinstance(held, list):
        raise BadArgument(reason=f"{wanted}, such as [12, 0, 7]")
    for expert, each in enumerate(held):
        if not _is_count(each):
            reason = f"{wanted}, from 0 on, and has {each!r} for expert {expert}"
            raise BadArgument(reason=reason)
    if not sum(held):
        raise BadArgument(reason=f"{wanted}, and no expert has any")
    return tuple(map(float, held))


def _is_count(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and 0 <= value < math.inf
