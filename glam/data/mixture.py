"""A mixture: sources and their weights, as a JSON file, and the one of the paper.

A weight is the share of a source in the tokens that training reads. How often a source
is then read, its epochs, is weight x budget / tokens.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glam.data.writing import atomic_file
from ir.errors import BadArgument

_FORMAT, _VERSION = "glam mixture", 1

# Du et al. 2021, Table 3: tokens and weight of each source.
TABLE_3: dict[str, tuple[int, float]] = {
    "web": (143_000_000_000, 0.42),
    "wikipedia": (3_000_000_000, 0.06),
    "conversations": (174_000_000_000, 0.28),
    "forums": (247_000_000_000, 0.02),
    "books": (390_000_000_000, 0.20),
    "news": (650_000_000_000, 0.02),
}


@dataclass(frozen=True)
class Part:
    """One source of a mixture, by path or name."""

    name: str
    source: str
    weight: float


def epochs(weights: list[float], tokens: list[int], budget: float) -> list[float]:
    """How often each source is read when training reads `budget` tokens in all."""
    total = sum(weights)
    return [w / total * budget / n for w, n in zip(weights, tokens, strict=True)]


def check_weight(name: str, weight: float) -> float:
    """A weight as it is; BadArgument where no source can have it."""
    if not 0 < weight < float("inf"):
        raise BadArgument(
            reason=f"the weight of {name} is {weight:g}: it must be positive; leave a "
            "source out to read none of it"
        )
    return weight


def write_mixture(path: Path, parts: list[Part], overwrite: bool = False) -> None:
    """Write a mixture's file; its name must end with .json."""
    if path.suffix != ".json":
        raise BadArgument(reason=f"the mixture {path} must end with .json")
    sources = [{"name": p.name, "source": p.source, "weight": p.weight} for p in parts]
    document = {"format": _FORMAT, "version": _VERSION, "sources": sources}
    with atomic_file(path, overwrite) as file:
        file.write(json.dumps(document, indent=2).encode() + b"\n")


def read_mixture(path: Path) -> list[Part]:
    """The parts of a mixture's file; a relative path counts from the file's folder."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadArgument(
            reason=f"the mixture {path} cannot be read: {error}"
        ) from None
    if not isinstance(document, dict) or document.get("format") != _FORMAT:
        raise BadArgument(
            reason=f"{path} is not a mixture; make one with `glam data mix`, and name "
            "documents .jsonl"
        )
    if document.get("version") != _VERSION:
        raise BadArgument(
            reason=f"the mixture {path} has version {document.get('version')}, and "
            f"this glam reads version {_VERSION}"
        )
    sources = document.get("sources")
    if not isinstance(sources, list) or not sources:
        raise BadArgument(reason=f"the mixture {path} has no sources")
    return [_part(path, source) for source in sources]


def _part(path: Path, source: Any) -> Part:
    try:
        name, named = str(source["name"]), str(source["source"])
        weight = check_weight(name, float(source["weight"]))
    except (KeyError, TypeError, ValueError):
        raise BadArgument(
            reason=f"a source of the mixture {path} is {json.dumps(source)}; it needs "
            "a name, a source and a weight"
        ) from None
    beside = path.parent / named
    return Part(name, str(beside) if beside.exists() else named, weight)
