"""The model: pure functions over a plain pytree of parameters.

    init(config, key) -> params
    abstract(config) -> the same tree of jax.ShapeDtypeStruct
    axes(config) -> the same tree of tuples of axis names
    forward(config, params, tokens, segments, positions=None, key=None) -> logits, aux
    loss(config, params, batch, key=None) -> scalar, metrics

A batch is {"inputs", "targets", "segments"}, each int32 [batch, sequence]; segment 0 is
padding. A model with random second choices takes a `key`.

Axis names: `block` (the scanned repeats of a layer pair), `vocabulary`, `model`,
`heads`, `head`, `hidden`, `experts`, `buckets` (of relative positions).
"""

from glam.model.config import Config

__all__ = ["Config"]
