"""One tensor against the truth: relative error, exact zeros, and contained NaNs."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

BOUNDS = {"float32": 1e-5, "bfloat16": 2e-2}


@dataclass(frozen=True)
class Finding:
    """The error of one tensor, or of one exact statement (0 if it holds, else inf)."""

    name: str
    error: float
    bound: float
    note: str = ""

    def __str__(self) -> str:
        note = f" ({self.note})" if self.note else ""
        return f"{self.name} is off by {self.error:.1e}, bound {self.bound:.1e}{note}"

    @property
    def ok(self) -> bool:
        return bool(self.error <= self.bound)


def compare(name: str, got: Array, truth: Array, bound: float, floor: float) -> Finding:
    """Relative error in the Frobenius norm, over what is finite in the truth.

    Integers must be equal, and what is NaN in the truth must not be finite. A slice
    along the first axis that is zero in the truth must be exactly zero, and so must a
    whole tensor; `floor` is the smallest norm that the error is taken relative to, for
    tensors that are nothing but cancelled terms.
    """
    got, truth = np.asarray(got), np.asarray(truth)
    if got.shape != truth.shape:
        return Finding(name, np.inf, bound, f"shape {got.shape}, not {truth.shape}")
    if truth.dtype.kind in "biu":
        wrong = int(np.sum(got != truth))
        note = f"{wrong} of {truth.size} differ" if wrong else ""
        return Finding(name, np.inf if wrong else 0.0, 0.0, note)
    exact = got.astype(np.float64)
    finite = np.isfinite(truth)
    if not np.isfinite(exact[finite]).all():
        return Finding(name, np.inf, bound, "not finite where the oracle is")
    if np.isfinite(exact[np.isnan(truth)]).any():
        return Finding(name, np.inf, bound, "finite where the oracle is NaN")
    note = _not_zero(exact, truth)
    if note:
        return Finding(name, np.inf, bound, note)
    norm = max(float(np.linalg.norm(truth[finite])), floor)
    error = float(np.linalg.norm((exact - truth)[finite]))
    return Finding(name, error / norm if error else 0.0, bound)


def _not_zero(got: Array, truth: Array) -> str:
    """What is not exactly zero though the truth is, in words."""
    if truth.ndim < 2:
        return "" if truth.any() or not got.any() else "not exactly zero"
    axes = tuple(range(1, truth.ndim))
    wrong = ~truth.any(axis=axes) & got.any(axis=axes)
    if not wrong.any():
        return ""
    count, first = int(wrong.sum()), int(wrong.argmax())
    return f"{count} slices not exactly zero, the first at {first}"


def holds(name: str, true: bool, note: str) -> Finding:
    """An exact statement; `note` says what is wrong where it is not true."""
    return Finding(name, 0.0 if true else np.inf, 0.0, "" if true else note)
