"""What a user sees while a run goes: a live line on a terminal, else plain lines."""

import time
from collections import deque
from statistics import median
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from glam.train.facts import Facts

# Steps whose median time a second's tokens are told from.
_WINDOW = 16
# Seconds between plain lines, where there is no terminal.
_PATIENCE = 10.0


class LiveScreen:
    """Writes to standard error; `steps` is the run's last step."""

    def __init__(self, steps: int, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._steps = steps
        self._rates: deque[float] = deque(maxlen=_WINDOW)
        self._told = 0.0
        self._progress: Progress | None = None
        self._task = TaskID(0)

    def __enter__(self) -> "LiveScreen":
        if self._console.is_terminal:
            self._progress = Progress(
                TextColumn("{task.completed:,}/{task.total:,}"),
                BarColumn(12),
                TextColumn("{task.description}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=self._console,
            )
            self._task = self._progress.add_task("", total=self._steps)
            self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def say(self, sentence: str) -> None:
        self._console.print(sentence, markup=False, highlight=False, soft_wrap=True)

    def step(self, facts: Facts) -> None:
        """Show a step, or without a terminal one every ten seconds and the last."""
        self._rates.append(facts["tokens_per_second"])
        line = summary(facts, median(self._rates))
        number = facts["step"]
        if self._progress is not None:
            self._progress.update(self._task, completed=number, description=line)
            return
        now = time.monotonic()
        if number >= self._steps or now - self._told >= _PATIENCE:
            self._told = now
            self.say(f"step {number:,}/{self._steps:,}  {line}")


class QuietScreen:
    """Says nothing: all processes but the first."""

    def say(self, sentence: str) -> None:
        pass

    def step(self, facts: Facts) -> None:
        pass


def summary(facts: Facts, rate: float) -> str:
    """A step on one line; `rate` is tokens a second."""
    parts = [f"loss {_number(facts['loss'], '.4f')}", f"{rate:,.0f} tokens/s"]
    if facts.get("mfu") is not None:
        parts.append(f"MFU {facts['mfu'] * rate / facts['tokens_per_second']:.1%}")
    else:
        parts.append("MFU unknown")
    for name, title, form in _ROUTING:
        if name in facts:
            parts.append(f"{title} {_number(facts[name], form)}")
    if facts["skipped_in_all"]:
        parts.append(f"skipped {facts['skipped_in_all']}")
    return "  ".join(parts)


_ROUTING = (
    ("load_ratio", "load max/mean", ".2f"),
    ("dropped", "dropped", ".1%"),
    ("dead_experts", "dead", "d"),
)


def _number(value: Any, form: str) -> str:
    return "NaN" if value is None or value != value else format(value, form)
