"""A model of the family as JSON."""

from dataclasses import asdict
from typing import Any

from glam.family import Model, count


def document(model: Model) -> dict[str, Any]:
    """Sizes, printed and computed parameters, and the computed ones by part."""
    made = count(model)
    computed = {"total": made.total, "activated": made.activated}
    return {**asdict(model), "kind": model.kind, "parts": asdict(made), **computed}
