"""The numbers of one step, as the record and the live line tell them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from glam.train.efficiency import Peak

Facts: TypeAlias = Mapping[str, Any]
# What the step tells the loop, and not the user.
_INNER = ("stop", "finite")


@dataclass(frozen=True)
class Speed:
    """What turns seconds into tokens a second and MFU."""

    tokens: int  # of one step
    flops: float  # of one token, forward and backward
    peak: Peak

    def of(self, seconds: float) -> dict[str, float | None]:
        rate = self.tokens / seconds
        return {
            "seconds": seconds,
            "tokens_per_second": rate,
            "mfu": self.peak.utilisation(rate * self.flops),
        }


def told_metrics(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics of a step as plain numbers.

    `load`, f32 [layers, experts], becomes `load_ratio`, the largest share of an expert
    over the mean share, in the worst layer, and `dead_experts`, how many got nothing.
    """
    facts: dict[str, Any] = {}
    for name, value in metrics.items():
        if name not in _INNER and np.ndim(value) == 0:
            facts[name] = np.asarray(value).item()
    if "load" in metrics:
        load = np.asarray(metrics["load"], np.float64)
        load = load.reshape(-1, load.shape[-1])
        mean = np.maximum(load.mean(1), np.finfo(np.float64).tiny)
        facts["load_ratio"] = float((load.max(1) / mean).max())
        facts["dead_experts"] = int((load == 0).sum())
    return facts
