"""When a run has left the good path and must go back to a healthy checkpoint.

Du et al. 2021 (section 5.1) restart from an earlier healthy checkpoint on a NaN or Inf
after an update and on rare large fluctuations; they give no rule. Ours is below.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from statistics import median
from typing import Any, NoReturn

from ir.errors import BadArgument

# The spread of a normal distribution is so many median absolute deviations.
_NORMAL = 1.4826
_COUNTS = ("high", "skipped", "bad")


@dataclass(frozen=True)
class SpikeRule:
    """A run goes back when one of these holds:

    - the weights hold a NaN or an Inf after an update;
    - `skips` steps in a row were skipped because their loss or gradients did;
    - the losses of `patience` steps in a row are each more than `deviations` spreads
      above the median of the last `window` losses within that bound. The spread is
      their median absolute deviation times 1.4826, but at least `least` of the median.

    It takes the newest checkpoint that is at least `margin` steps older than the first
    of those steps, and goes on with the data after the last: the batches between are
    not seen again, as they would do the same again. After `most` times it gives up.
    """

    enabled: bool = True
    window: int = 64
    deviations: float = 10.0
    least: float = 0.02
    patience: int = 4
    skips: int = 16
    margin: int = 2
    most: int = 3

    def __post_init__(self) -> None:
        lowest = {"window": 4, "patience": 1, "skips": 1, "margin": 0, "most": 0}
        for name, low in lowest.items():
            value = getattr(self, name)
            if value < low:
                _refuse(f"rollback.{name}={value} must be at least {low}")
        for name in ("deviations", "least"):
            value = getattr(self, name)
            if not (isfinite(value) and value > 0):
                _refuse(f"rollback.{name}={value} must be a finite number above 0")


@dataclass
class SpikeWatch:
    """The rule applied to a run, step by step; its state is plain JSON."""

    rule: SpikeRule
    losses: list[float] = field(default_factory=list)
    high: int = 0
    skipped: int = 0
    bad: int = 0  # steps since the last good one

    def see(self, loss: float, skipped: bool, finite: bool) -> str | None:
        """Take in one step; the reason to go back, if there is one.

        `finite` says whether the weights are, after the step.
        """
        if not self.rule.enabled:
            return None
        self.bad += 1
        if not finite:
            return "the weights hold a NaN or an Inf"
        if skipped:
            self.skipped += 1
            told = f"{self.skipped} steps in a row were skipped for a NaN or an Inf"
            return told if self.skipped >= self.rule.skips else None
        self.skipped = 0
        bound = self.bound()
        if loss > bound:
            self.high += 1
            told = f"{self.high} losses in a row are above {bound:.4g}"
            return told if self.high >= self.rule.patience else None
        self.high = self.bad = 0
        self.losses = [*self.losses, loss][-self.rule.window :]
        return None

    def bound(self) -> float:
        """The highest loss that is no spike; infinite until the window is full."""
        if len(self.losses) < self.rule.window:
            return float("inf")
        middle = median(self.losses)
        spread = _NORMAL * median(abs(loss - middle) for loss in self.losses)
        return middle + self.rule.deviations * max(
            spread, self.rule.least * abs(middle)
        )

    def get_state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {name: getattr(self, name) for name in ("losses", *_COUNTS)}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go back to a state; under a shorter window the oldest losses are dropped."""
        self.losses = [float(loss) for loss in state["losses"]][-self.rule.window :]
        for name in _COUNTS:
            setattr(self, name, int(state[name]))


def _refuse(reason: str) -> NoReturn:
    raise BadArgument(reason=reason)
