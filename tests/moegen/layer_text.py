"""A layer as text, which the tests of errors edit line by line."""

from pathlib import Path

import pytest

LAYER = """\
import jax
import jax.numpy as jnp
from moegen.lang import *


def layer(
    x=tensor("tokens model"),
    *,
    tokens=8, model=4, hidden=6, experts=3, other=5, factor=2.0,
):
    router = param("router", "model experts")
    wi = param("wi", "experts model hidden")
    wo = param("wo", "experts hidden model")
    scores = softmax(matmul(x, router))
    choice = top_k(scores, 2)
    kept = assign(choice, capacity(tokens, experts, factor))
    rows = dispatch(x, kept)
    inner = jax.nn.relu(expert_matmul(rows, wi))
    return combine(expert_matmul(inner, wo), take(scores, choice))
"""


def written(folder: Path, edits: dict[str, str]) -> tuple[str, int | None]:
    text = LAYER
    for old, new in edits.items():
        assert old in text, old
        text = text.replace(old, new)
    path = folder / "layer.py"
    path.write_text(text, encoding="utf-8")
    lines = [n for n, line in enumerate(text.split("\n"), 1) if line.endswith("# here")]
    return f"{path}:layer", lines[0] if lines else None


def refusal(kind, call, *args, **named) -> str:
    with pytest.raises(kind) as caught:
        call(*args, **named)
    assert type(caught.value) is kind, caught.value
    text = str(caught.value)
    assert "Traceback" not in text
    assert "{" not in text
    return text


def holds(text: str, parts: list[str]) -> None:
    assert not [part for part in parts if part not in text], text
