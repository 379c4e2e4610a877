"""The model: pure functions over a plain pytree of parameters.

    init(config, key) -> params
    abstract(config) -> the same tree of jax.ShapeDtypeStruct
    axes(config) -> the same tree of tuples of axis names
    forward(config, params, tokens, segments, positions=None, key=None) -> logits, aux
    loss(config, params, batch, key=None) -> scalar, metrics

A batch is {"inputs", "targets", "segments"}, each int32 [batch, sequence]; segment 0 is
padding. A model with random second choices takes a `key`.

Axis names: `block` (the scanned repeats of a layer pair), `vocabulary`, `model`,
`heads`, `head`, `hidden`, `experts`, `buckets` (of relative positions), and what a
layer of the zoo names besides.
"""

from typing import TYPE_CHECKING, Any

from glam.model.config import Config

if TYPE_CHECKING:
    from glam.model.objective import loss
    from glam.model.parameters import abstract, axes, init, is_axes, sizes
    from glam.model.transformer import forward

__all__ = [
    "Config",
    "abstract",
    "axes",
    "forward",
    "init",
    "is_axes",
    "loss",
    "sizes",
]

_LAZY = {
    "abstract": "glam.model.parameters",
    "axes": "glam.model.parameters",
    "forward": "glam.model.transformer",
    "init": "glam.model.parameters",
    "is_axes": "glam.model.parameters",
    "loss": "glam.model.objective",
    "sizes": "glam.model.parameters",
}


def __getattr__(name: str) -> Any:
    """Import jax when a function is first asked for: a Config needs none of it."""
    if name not in _LAZY:
        raise AttributeError(f"module 'glam.model' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(_LAZY[name]), name)
