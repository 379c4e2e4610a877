"""The other process: starts `torch_child.py` under a PyTorch interpreter, asks, times.

The child lives through a suite, so that its runs and ours take turns.
"""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench.result import Skipped
from bench.timing import Clock

CHILD = Path(__file__).with_name("torch_child.py")
FORMS = ("eager", "grouped_mm")


class TorchPeer:
    """A child process with a Mixtral block. Raises `Skipped` where there is none."""

    def __init__(self, python: Path | None) -> None:
        if python is None:
            raise Skipped("no PyTorch interpreter given: add --torch-python PATH")
        environment = {**os.environ, "TRANSFORMERS_VERBOSITY": "error"}
        environment.pop("PYTHONPATH", None)
        try:
            self._child = subprocess.Popen(
                [str(python), str(CHILD), str(os.cpu_count() or 1)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=environment,
            )
        except OSError as error:
            raise Skipped(f"{python}: {error.strerror or error}") from None
        self.versions: dict[str, Any] = {}

    def __enter__(self) -> Self:
        hello = self._read()
        if "missing" in hello:
            self.close()
            raise Skipped(f"PyTorch's interpreter lacks {hello['missing']}")
        self.versions = hello
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def build(self, sizes: Mapping[str, int], dtype: str) -> None:
        """Make the block, in place of the last one."""
        self._ask({"do": "build", "sizes": dict(sizes), "dtype": dtype})

    def clock(self, form: str, tokens: int) -> Clock:
        """A clock over one run of the block; the child itself reads the time."""

        def measure() -> float:
            answer = self._ask({"do": "run", "form": form, "tokens": tokens})
            return float(answer["seconds"])

        return measure

    def close(self) -> None:
        """End the child: it leaves when its input closes."""
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe:
                pipe.close()
        try:
            self._child.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps(request) + "\n")
        self._child.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line:
            self.close()
            raise RuntimeError(f"PyTorch's process ended with {self._child.returncode}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"PyTorch's process: {answer['error']}")
        return answer
