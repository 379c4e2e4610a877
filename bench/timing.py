"""Paired timing: contestants take turns in changing order, so that noise hits all.

A clock is a function that does its work once and says how many seconds that took.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import quantiles
from typing import Any

Clock = Callable[[], float]
Samples = tuple[float, ...]


@dataclass(frozen=True)
class Effort:
    """How long to measure: rounds, within a budget of seconds once `least` are done."""

    least: int = 5
    most: int = 31
    budget: float = 20.0
    warm: int = 1


@dataclass(frozen=True)
class Spread:
    """A median and its quartiles."""

    low: float
    median: float
    high: float


def clock(function: Callable[..., Any], *arguments: Any) -> Clock:
    """A clock over a JAX function; it waits until the results are there."""
    import jax

    def measure() -> float:
        start = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        return time.perf_counter() - start

    return measure


def take_turns(
    clocks: Mapping[str, Clock],
    effort: Effort,
    now: Callable[[], float] = time.perf_counter,
) -> dict[str, Samples]:
    """Samples of every clock, one each a round; odd rounds run in reverse order."""
    for _ in range(effort.warm):
        for measure in clocks.values():
            measure()
    times: dict[str, list[float]] = {name: [] for name in clocks}
    start = now()
    for done in range(effort.most):
        if done >= effort.least and (now() - start) * (done + 1) > effort.budget * done:
            break
        order = list(clocks) if done % 2 == 0 else list(clocks)[::-1]
        for name in order:
            times[name].append(clocks[name]())
    return {name: tuple(seen) for name, seen in times.items()}


def spread(values: Samples) -> Spread:
    """The median and quartiles of some samples."""
    if len(values) == 1:
        low = median = high = values[0]
    else:
        low, median, high = quantiles(values, n=4, method="inclusive")
    return Spread(float(low), float(median), float(high))


def paired_ratio(ours: Samples, theirs: Samples) -> Spread:
    """Spread of ours / theirs within each round; below 1 ours is faster."""
    pairs = zip(ours, theirs, strict=True)
    return spread(tuple(mine / other for mine, other in pairs))
