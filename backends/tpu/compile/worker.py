"""The parent's side of a child process that compiles; it survives the child's end."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backends.tpu.compile.classify import death
from backends.tpu.compile.job import Kind, Outcome
from ir.errors import NoTpuCompiler

_ROOT = Path(__file__).resolve().parents[3]
_START_LIMIT_S = 120.0
_LOG_BYTES = 65536


def environment() -> dict[str, str]:
    """The child's environment: ours, with what libtpu needs where there is no TPU."""
    paths = [str(_ROOT), os.environ.get("PYTHONPATH", "")]
    return os.environ | {
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
        # A program from JAX's own cache would tell nothing of compile time.
        "JAX_ENABLE_COMPILATION_CACHE": "0",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "TPU_SKIP_MDS_QUERY": "1",
    }


class Worker:
    """One child process. Raises `NoTpuCompiler` where it cannot start."""

    def __init__(self) -> None:
        self._log = tempfile.TemporaryFile("a+b")  # noqa: SIM115 - lives as long as we
        self._expired = False
        # -P: a file in the current folder must not stand in for a library.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "backends.tpu.compile.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment(),
            encoding="utf-8",
            start_new_session=True,
        )
        self.usable = True
        if not self._exchange(None, _START_LIMIT_S):
            reason = self._reason() if not self._expired else "it hangs at its start"
            self.close()
            hint = ", and check LIBTPU_INIT_ARGS and XLA_FLAGS"
            raise NoTpuCompiler(reason=reason, hint=hint)

    def ask(self, request: Mapping[str, Any], limit_s: float) -> Outcome:
        """What becomes of one job; if it takes the child along, `usable` turns false.

        `limit_s` is in seconds, and holds for the whole job.
        """
        self._log.truncate(0)
        began = time.perf_counter()
        line = self._exchange(json.dumps(request), limit_s)
        seconds = time.perf_counter() - began
        if line:
            answered = json.loads(line)
            self.usable = not (answered["spent"] or self._expired)
            return Outcome.of(answered["outcome"])
        self.usable = False
        if self._expired:
            reason = f"the compiler took longer than the limit of {limit_s:g} s"
            return Outcome(Kind.TIMED_OUT, reason, seconds=seconds)
        return Outcome(Kind.CRASHED, self._reason(), seconds=seconds)

    def close(self) -> None:
        """End the child, and what it started."""
        self.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                _open(pipe).close()
        self._log.close()

    def kill(self) -> None:
        """End the child at once; safe from any thread."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _exchange(self, request: str | None, limit_s: float) -> str:
        """The child's next line, or nothing if it ended or was ended by the limit."""
        timer = threading.Timer(limit_s, self._expire)
        timer.daemon = True
        timer.start()
        try:
            if request is not None:
                stdin = _open(self._process.stdin)
                stdin.write(request + "\n")
                stdin.flush()
            line = _open(self._process.stdout).readline()
        except BrokenPipeError:
            line = ""
        finally:
            timer.cancel()
        return line if line.endswith("\n") else ""

    def _expire(self) -> None:
        self._expired = True
        self.kill()

    def _reason(self) -> str:
        code = self._process.wait()
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - _LOG_BYTES))
        return death(code, self._log.read().decode(errors="replace"))


def _open(pipe: Any) -> Any:
    if pipe is None:
        raise BrokenPipeError
    return pipe
