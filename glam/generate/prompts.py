"""Prompts as one array, and the model as it is served."""

from collections.abc import Sequence

import numpy as np

from glam.model.config import Config
from glam.model.feed_forward import unservable
from ir.errors import BadArgument

# Lengths are rounded up to whole steps, so that few shapes are ever compiled.
STEP = 64

Prompts = Sequence[Sequence[int]]


def served(config: Config) -> Config:
    """The configuration that decodes; raises `BadArgument` where none can."""
    why = unservable(config)
    if why:
        raise BadArgument(reason=why)
    return config.serving()


def packed(config: Config, prompts: Prompts) -> tuple[np.ndarray, np.ndarray]:
    """Tokens int32 [batch, longest, rounded up], 0 behind each prompt, and lengths."""
    if not prompts:
        raise BadArgument(reason="there is no prompt: give at least one")
    for number, prompt in enumerate(prompts):
        _check(number, prompt, config.vocabulary)
    lengths = np.array([len(prompt) for prompt in prompts], np.int32)
    tokens = np.zeros((len(prompts), rounded(int(lengths.max()))), np.int32)
    for row, prompt in zip(tokens, prompts, strict=True):
        row[: len(prompt)] = prompt
    return tokens, lengths


def rounded(length: int) -> int:
    """The length, rounded up to whole steps."""
    return -(-length // STEP) * STEP


def _check(number: int, prompt: Sequence[int], vocabulary: int) -> None:
    if len(prompt) == 0:
        reason = f"prompt {number} holds no token: start it with at least one"
        raise BadArgument(reason=reason)
    outside = [token for token in prompt if not 0 <= token < vocabulary]
    if outside:
        reason = (
            f"prompt {number} holds the token {outside[0]}, and the model's vocabulary "
            f"ends at {vocabulary - 1}: encode it with the model's own tokenizer"
        )
        raise BadArgument(reason=reason)
