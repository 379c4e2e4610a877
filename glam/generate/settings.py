"""How to decode, and what comes out."""

from dataclasses import dataclass
from math import isfinite
from typing import NoReturn

from ir.errors import BadArgument

END = 1  # </s> of the paper's tokenizer


@dataclass(frozen=True)
class Completion:
    """What one prompt was continued with.

    `tokens` hold no end token; `log_probability` is the sum over them, and over the end
    token if `ended`, of the model's own log-probabilities, before any temperature.
    """

    tokens: tuple[int, ...]
    log_probability: float
    ended: bool


@dataclass(frozen=True)
class Settings:
    """Sampling: `temperature` 0 is greedy; then `top_k` best, then `top_p` of the mass.

    At most `tokens` are generated, up to the token `end` (None: no token ends).
    Raises `BadArgument`.
    """

    tokens: int = 64
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0
    end: int | None = END

    def __post_init__(self) -> None:
        _at_least_one("tokens", self.tokens)
        if not isfinite(self.temperature) or self.temperature < 0:
            _refuse(f"temperature={self.temperature} must be 0 (greedy) or above")
        if self.top_k is not None:
            _at_least_one("top_k", self.top_k)
        if self.top_p is not None and not 0 < self.top_p <= 1:
            _refuse(f"top_p={self.top_p} must be above 0 and at most 1")


@dataclass(frozen=True)
class Search:
    """Beam search: `width` beams of at most `tokens`, up to the token `end`.

    A score is log-probability / ((5 + length) / 6)^`penalty`, where the length counts
    the end token (Wu et al. 2016, equation 14). GLaM's width is 4; its penalty is not
    published, 0.6 is that of Raffel et al. 2020. Raises `BadArgument`.
    """

    tokens: int = 64
    width: int = 4
    penalty: float = 0.6
    end: int | None = END

    def __post_init__(self) -> None:
        _at_least_one("tokens", self.tokens)
        _at_least_one("width", self.width)
        if not isfinite(self.penalty) or self.penalty < 0:
            _refuse(f"penalty={self.penalty} must be a number of at least 0")


def _at_least_one(name: str, value: int) -> None:
    if type(value) is not int or value < 1:
        _refuse(f"{name}={value!r} must be a whole number of at least 1")


def _refuse(reason: str) -> NoReturn:
    raise BadArgument(reason=reason)
