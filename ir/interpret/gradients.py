"""Proof of a gradient that shares nothing with how it was derived: differences."""

from collections.abc import Sequence

import numpy as np

from ir import mlir
from ir.interpret import interpret
from ir.interpret.arrays import Array


def directional_check(
    module: mlir.Module,
    arguments: Sequence[Array],
    cotangents: Sequence[Array],
    gradients: Sequence[Array],
    wanted: Sequence[int],
    seed: int,
    step: float = 1e-6,
) -> list[float]:
    """The relative error of each gradient along a random direction of length 1.

    `cotangents` belong to the floating-point results of `forward`, in order;
    `gradients[i]` is that of `arguments[wanted[i]]`. The difference is central, in
    float64. Errors are relative to the larger of the two derivatives, and to what
    rounding alone could make of the difference, 10,000 times over.
    """
    random = np.random.default_rng(seed)
    exact = [np.asarray(a) for a in arguments]
    weights = [np.asarray(c).astype(np.float64) for c in cotangents]
    floor = _rounding(_floats(module, exact), weights, step)
    errors = []
    for index, gradient in zip(wanted, gradients, strict=True):
        direction = random.standard_normal(exact[index].shape)
        direction /= np.linalg.norm(direction)
        sides = [_moved(exact, index, s * direction) for s in (step, -step)]
        after, before = (_floats(module, side) for side in sides)
        change = [a - b for a, b in zip(after, before, strict=True)]
        differences = _inner(change, weights) / (2 * step)
        derived = _inner([np.asarray(gradient).astype(np.float64)], [direction])
        scale = max(abs(differences), abs(derived), floor)
        errors.append(abs(differences - derived) / scale)
    return errors


def _floats(module: mlir.Module, arguments: Sequence[Array]) -> list[Array]:
    results = interpret(module, "forward", arguments).results
    return [result for result in results if result.dtype == np.float64]


def _moved(arguments: Sequence[Array], index: int, change: Array) -> list[Array]:
    moved = list(arguments)
    moved[index] = moved[index].astype(np.float64) + change
    return moved


def _inner(a: Sequence[Array], b: Sequence[Array]) -> float:
    return float(sum(np.sum(x * y) for x, y in zip(a, b, strict=True)))


def _rounding(results: Sequence[Array], weights: Sequence[Array], step: float) -> float:
    """10,000 times the error that rounding the results leaves in a difference."""
    terms = [np.abs(r * w) for r, w in zip(results, weights, strict=True)]
    size = float(np.sqrt(sum(np.sum(term**2) for term in terms)))
    return max(1e4 * np.finfo(np.float64).eps * size / step, 1e-12)
