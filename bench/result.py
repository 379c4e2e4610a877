"""What a suite yields: a row of figures and the bar it should meet."""

from dataclasses import dataclass, field
from typing import Any, Literal

from bench.timing import Samples, Spread, paired_ratio, spread


@dataclass(frozen=True)
class Bar:
    """What is asked of the median ratio, or of our own median in the row's unit."""

    limit: float
    sign: Literal["<=", "<", "=="] = "<="
    of: Literal["ratio", "ours"] = "ratio"

    def met_by(self, value: float) -> bool:
        if self.sign == "==":
            return value == self.limit
        return value < self.limit if self.sign == "<" else value <= self.limit

    def __str__(self) -> str:
        return f"{self.sign} {self.limit:.3g}"


@dataclass(frozen=True)
class Row:
    """One comparison: samples of ours and of theirs, in the same rounds."""

    case: str
    dtype: str
    ours: Samples
    theirs: Samples = ()
    bar: Bar | None = None
    unit: str = "ms"
    against: str = ""
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> Spread | None:
        return paired_ratio(self.ours, self.theirs) if self.theirs else None

    @property
    def met(self) -> bool | None:
        """Whether the bar is met; None where there is none."""
        if self.bar is None:
            return None
        if self.bar.of == "ours":
            return self.bar.met_by(spread(self.ours).median)
        return self.ratio is not None and self.bar.met_by(self.ratio.median)


@dataclass
class Outcome:
    """A suite's rows so far, and why it was skipped or how it failed, if so."""

    suite: str
    title: str
    rows: list[Row] = field(default_factory=list)
    skipped: str = ""
    failed: str = ""


class Skipped(Exception):
    """A suite cannot run here; the message says why."""


def milliseconds(samples: Samples) -> Samples:
    """Seconds as milliseconds."""
    return tuple(1e3 * seconds for seconds in samples)
