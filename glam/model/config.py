"""What a model is: its sizes, its options and their defaults (Du et al. 2021)."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from math import isfinite
from typing import Any, NoReturn

from glam.family import find_model
from ir.errors import BadArgument, nearest

CHOICES: Mapping[str, tuple[str, ...]] = {
    "activation": ("relu", "gelu"),
    "second_choice": ("all", "random"),
    "position": ("buckets", "transformer-xl"),
    "parameter_dtype": ("float32", "bfloat16"),
    "activation_dtype": ("float32", "bfloat16"),
    "remat": ("none", "products", "all"),
}
_WHOLE = (
    "layers",
    "model",
    "hidden",
    "heads",
    "head",
    "vocabulary",
    "sequence",
    "k",
    "groups",
    "key_block",
)
_TEXT = ("layer", "target")


@dataclass(frozen=True)
class Config:
    """Sizes and options of one model; hashable, so that it can be a static argument.

    Sizes (Table 4's letter): `layers` L, `model` M, `hidden` H, `heads`, `head` d_head,
    `experts` E or None for a dense model, `vocabulary` V, `sequence` the longest
    sequence of training.

    Routing: `layer` names the expert layer (one of moegen's zoo, or FILE.py:FUNCTION),
    `layer_options` are further sizes of it; `k` experts a token; `capacity_factor`
    counts both choices, and None drops nothing; `groups` are routed independently;
    `activation` is that of the experts; `second_choice` "all" always dispatches the
    second expert, "random" with probability min(1, 2 * its gate) (GShard).

    Attention: `position` is a learned bias by distance in "buckets", as in the public
    code, or that of "transformer-xl" (Dai et al. 2019), which the paper cites.

    Numbers: parameters and activations have their own dtypes; norms, router scores,
    attention logits and output logits are float32 in either. `remat` is what the
    backward pass computes again: nothing, all but matrix products, or all of a block.
    `key_block` is how many keys attention sees at a time. `tile_rows` is how many rows
    of an expert are multiplied at a time: the target's choice, or one number for all,
    and then a token has the same bits whatever is routed beside it.

    Losses: `balance_weight` is the weight of the load-balance loss, summed over layers;
    `z_weight` that of the z-loss on output logits (paper 0, public code 1e-4).

    `target` is what the layers are compiled for (`moegen targets`).
    Raises `BadArgument` with one sentence.
    """

    layers: int
    model: int
    hidden: int
    heads: int
    head: int
    experts: int | None = None
    vocabulary: int = 32_000
    sequence: int = 1024
    layer: str = "glam"
    layer_options: tuple[tuple[str, int | float | bool], ...] = ()
    k: int = 2
    capacity_factor: float | None = 2.0
    groups: int = 1
    activation: str = "relu"
    second_choice: str = "all"
    parameter_dtype: str = "float32"
    activation_dtype: str = "bfloat16"
    remat: str = "none"
    key_block: int = 256
    tile_rows: int | None = None
    balance_weight: float = 0.01
    z_weight: float = 0.0
    target: str = "cpu"
    position: str = "buckets"

    def __post_init__(self) -> None:
        for name in _WHOLE:
            _whole(name, getattr(self, name))
        for name, known in CHOICES.items():
            _one_of(name, getattr(self, name), known)
        for name in _TEXT:
            _text(name, getattr(self, name))
        for name in ("balance_weight", "z_weight"):
            _number(name, getattr(self, name), 0.0)
        object.__setattr__(self, "layer_options", _options(self.layer_options))
        self._check_routing()

    def _check_routing(self) -> None:
        if self.tile_rows is not None:
            _whole("tile_rows", self.tile_rows)
        if self.capacity_factor is not None:
            _number("capacity_factor", self.capacity_factor, None)
        if self.experts is None:
            return
        _whole("experts", self.experts)
        if self.layers % 2:
            _refuse(
                f"layers={self.layers}: a model with experts is made of pairs of "
                "layers, so the number must be even"
            )
        if self.k > self.experts:
            _refuse(f"k={self.k} experts a token of experts={self.experts}: lower k")

    @classmethod
    def of(cls, name: str, **changes: Any) -> "Config":
        """A model of Table 4 by name, with changes; raises `BadArgument`."""
        row = find_model(name)
        sizes = {
            "layers": row.layers,
            "model": row.model,
            "hidden": row.hidden,
            "heads": row.heads,
            "head": row.head,
            "experts": row.experts,
            "vocabulary": row.vocabulary,
        }
        return cls.from_json(sizes | changes)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Config":
        """The inverse of `to_json`; a key that is unknown or missing is refused."""
        known = {field.name: field for field in fields(cls)}
        for key in document:
            if key not in known:
                close = nearest(key, list(known))
                listed = ", ".join(known)
                _refuse(f"a model has no '{key}'; it has {listed}{close}")
        needed = ("layers", "model", "hidden", "heads", "head")
        missing = [name for name in needed if name not in document]
        if missing:
            _refuse(f"a model needs {', '.join(missing)}: add what is missing")
        return cls(**document)

    def to_json(self) -> dict[str, Any]:
        """All fields, as plain JSON."""
        return asdict(self) | {"layer_options": dict(self.layer_options)}

    def serving(self) -> "Config":
        """The same model for evaluation and generation: nothing is dropped.

        Capacity makes a token's output depend on the tokens routed with it, later ones
        included; without it, decoding with a cache equals the full forward pass, and
        neither batch nor padding changes a result.
        """
        return replace(self, capacity_factor=None, second_choice="all", remat="none")

    @property
    def kinds(self) -> tuple[str, ...]:
        """The layers of one block: what is compiled once and scanned."""
        return ("dense",) if self.experts is None else ("moe", "dense")

    @property
    def blocks(self) -> int:
        """How often the block is repeated."""
        return self.layers // len(self.kinds)


def _whole(name: str, value: Any) -> None:
    if type(value) is not int or value < 1:
        _refuse(f"{name}={value!r} must be a whole number of at least 1")


def _number(name: str, value: Any, least: float | None) -> None:
    """A finite number of at least `least`, or above 0 if that is None."""
    real = isinstance(value, int | float) and not isinstance(value, bool)
    enough = real and isfinite(value) and (value > 0 if least is None else value >= 0)
    if not enough:
        bound = "above 0" if least is None else f"of at least {least:g}"
        _refuse(f"{name}={value!r} must be a number {bound}")


def _one_of(name: str, value: Any, known: tuple[str, ...]) -> None:
    if value not in known:
        _refuse(f"{name}={value!r} must be one of {', '.join(known)}")


def _text(name: str, value: Any) -> None:
    if not isinstance(value, str) or not value:
        _refuse(f"{name}={value!r} must be a name")


def _options(given: Any) -> tuple[tuple[str, int | float | bool], ...]:
    """Options of the layer as sorted pairs, from pairs or from a JSON object."""
    try:
        pairs = dict(given)
    except (TypeError, ValueError):
        _refuse(f"layer_options={given!r} must map names to numbers")
    for name, value in pairs.items():
        if not isinstance(name, str) or not isinstance(value, int | float):
            _refuse(f"layer_options: {name!r} is {value!r} and must be a number")
    return tuple(sorted(pairs.items()))


def _refuse(reason: str) -> NoReturn:
    raise BadArgument(reason=reason)
