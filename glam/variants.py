"""Models of another number of experts that cost what a model of the family costs.

One size gives way, the width of the feed-forward layers or the number of layers. What
is matched is linear in it, so the best size is found directly and rounded to what
hardware and layer pairs ask for.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import ceil, floor
from typing import NoReturn

from glam.family import Model, count, forward_flops
from glam.model.config import Config
from ir.errors import BadArgument, nearest

MATCHES: Mapping[str, Callable[[Model], float]] = {
    "activated-flops": forward_flops,
    "activated-parameters": lambda model: float(count(model).activated),
    "total-parameters": lambda model: float(count(model).total),
}
# What gives way, and what it is a multiple of: lanes of a TPU, pairs of layers.
MULTIPLES = {"hidden": 128, "layers": 2}


@dataclass(frozen=True)
class Variant:
    """What became of a number of experts: a model, or why there is none.

    `difference` is that of the best model found, as a fraction of what was matched.
    """

    experts: int
    model: Model | None
    difference: float | None
    reason: str = ""


@dataclass(frozen=True)
class Rule:
    """`match` within `tolerance`, by changing `vary` in steps of `multiple`.

    Raises `BadArgument`.
    """

    match: str = "activated-flops"
    tolerance: float = 0.01
    vary: str = "hidden"
    multiple: int = 0

    def __post_init__(self) -> None:
        for name, known in (("match", MATCHES), ("vary", MULTIPLES)):
            value = getattr(self, name)
            if value not in known:
                close = nearest(str(value), list(known))
                listed = ", ".join(known)
                _refuse(f"{name}={value!r} must be one of {listed}{close}")
        if not 0 <= self.tolerance < 1:
            _refuse(f"tolerance={self.tolerance:g} must be at least 0 and below 1")
        if self.multiple < 0:
            _refuse(f"multiple={self.multiple} must be a whole number of at least 1")
        if not self.multiple:
            object.__setattr__(self, "multiple", MULTIPLES[self.vary])

    def cost(self, model: Model) -> float:
        """What is matched, of a model."""
        return MATCHES[self.match](model)


def variant(base: Model, experts: int, rule: Rule) -> Variant:
    """The best variant of a model with that many experts, or why there is none."""
    target = rule.cost(base)

    def sized(size: int) -> Model:
        name = f"{base.name.partition('/')[0]}/{experts}E"
        changed = {"experts": experts, rule.vary: size}
        return replace(
            base, name=name, printed_total="-", printed_activated="-", **changed
        )

    refusal = _refusal(base, experts=experts)
    if refusal:
        return Variant(experts, None, None, refusal)
    # Two points give the line, a pair of layers apart; size 0 leaves the rest.
    rest, step = rule.cost(sized(0)), rule.multiple
    slope = (rule.cost(sized(2)) - rest) / 2
    if rest >= target:
        return Variant(
            experts,
            None,
            rest / target - 1,
            f"what does not depend on {rule.vary} comes to {rest:.4g} already, and "
            f"{rule.match} of {base.name} are {target:.4g}",
        )
    exact = (target - rest) / slope
    sizes = {floor(exact / step) * step, ceil(exact / step) * step} - {0}
    ranked = sorted(sizes, key=lambda size: abs(rule.cost(sized(size)) - target))
    model = sized(ranked[0])
    difference = rule.cost(model) / target - 1
    refusal = _refusal(base, experts=experts, **{rule.vary: ranked[0]})
    if refusal:
        return Variant(experts, None, difference, refusal)
    if abs(difference) <= rule.tolerance:
        return Variant(experts, model, difference)
    near = " and ".join(
        f"{rule.vary} {size:,} ({rule.cost(sized(size)) / target - 1:+.2%})"
        for size in sorted(sizes)
    )
    return Variant(
        experts,
        None,
        difference,
        f"an exact match needs {rule.vary} {exact:,.1f}; of multiples of {step} the "
        f"nearest, {near}, lie outside {rule.tolerance:.2%}",
    )


def _refusal(base: Model, **changes: int) -> str:
    """Why a changed model cannot be; nothing if it can."""
    try:
        Config.of(base.name, **changes)
    except BadArgument as error:
        return str(error)
    return ""


def _refuse(reason: str) -> NoReturn:
    raise BadArgument(reason=reason)
