"""A model of the family as JSON."""

from dataclasses import asdict
from typing import Any

from glam.family import SEQUENCE, Model, count, forward_flops, weight_bytes


def document(model: Model) -> dict[str, Any]:
    """Sizes, printed and computed parameters, FLOPs and bytes; parameters by part."""
    made = count(model)
    computed = {"total": made.total, "activated": made.activated}
    work = {
        "forward_flops_per_token": forward_flops(model),
        "flops_in_sequences_of": SEQUENCE,
        "bytes": {name: weight_bytes(model, name) for name in ("float32", "bfloat16")},
    }
    own = {**asdict(model), "kind": model.kind, "parts": asdict(made)}
    return own | computed | work
