"""Generation: sampling and beam search over a cache of keys and values.

    generate(config, params, prompts, settings) -> completions
    stream(config, params, prompts, settings) -> one token of each prompt at a time
    beam(config, params, prompts, search) -> completions

Prompts are token ids. Nothing is dropped while decoding (`Config.serving`): capacity
would make a token depend on its batch and on later tokens, so that a cache could not
give what the full forward pass gives.
"""

from typing import TYPE_CHECKING, Any

from glam.generate.settings import Completion, Search, Settings

if TYPE_CHECKING:
    from glam.generate.beam_search import beam
    from glam.generate.sampling import generate, stream

__all__ = [
    "Completion",
    "Search",
    "Settings",
    "beam",
    "generate",
    "stream",
]

_LAZY = {
    "beam": "glam.generate.beam_search",
    "generate": "glam.generate.sampling",
    "stream": "glam.generate.sampling",
}


def __getattr__(name: str) -> Any:
    """Import jax when a function is first asked for."""
    if name not in _LAZY:
        raise AttributeError(f"module 'glam.generate' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(_LAZY[name]), name)
