"""The record of a run: one JSON line a step, and TensorBoard's files on request."""

import json
import os
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any

Facts = Mapping[str, Any]


class Record:
    """Appends to a file of JSON lines; a step's line has "step", others have "event".

    Each line is handed to the system at once, so that a killed run loses none.
    """

    def __init__(self, path: Path, tensorboard: bool = False) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")
        self._board: Any = None
        if tensorboard:
            from tensorboardX import SummaryWriter

            self._board = SummaryWriter(str(path.parent / "tensorboard"))

    def write(self, facts: Facts) -> None:
        """One line; numbers of a step also go to TensorBoard."""
        plain = {name: _plain(value) for name, value in facts.items()}
        line = json.dumps(plain, allow_nan=False)
        self._file.write(line.encode() + b"\n")
        self._file.flush()
        if self._board is not None and "step" in facts and "event" not in facts:
            for name, value in plain.items():
                if isinstance(value, int | float) and name != "step":
                    self._board.add_scalar(name, value, facts["step"])

    def mark(self) -> int:
        """A place in the file, to which `cut` goes back."""
        return self._file.tell()

    def cut(self, mark: int) -> None:
        """Drop the lines after a mark: a run that goes back does those steps again."""
        self._file.flush()
        size = os.fstat(self._file.fileno()).st_size
        os.ftruncate(self._file.fileno(), min(mark, size))
        self._file.seek(0, os.SEEK_END)

    def close(self) -> None:
        self._file.close()
        if self._board is not None:
            self._board.close()


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of a record; a last line that was cut short is left out."""
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1]]


def _plain(value: Any) -> Any:
    """JSON has no NaN and no Inf: they become null."""
    return None if isinstance(value, float) and not isfinite(value) else value
