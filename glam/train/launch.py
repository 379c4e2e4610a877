"""Processes of one run on this machine: each is the same command with its number."""

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from types import FrameType
from typing import IO

from glam.train.parallel import free_port

Process = subprocess.Popen[bytes]

_PROGRAM = "import sys; from glam.cli import main; sys.exit(main())"
# What a process returns that ended in good order: done, diverged, interrupted.
_ORDERLY = (0, 1, 130)
# Seconds that processes have to end by themselves after one has failed.
_GRACE = 3.0


def launch(arguments: Sequence[str], processes: int) -> int:
    """Run `glam` with `arguments` in so many processes; the exit code of the run.

    Process 0 speaks for all. A signal is passed on to all. If one process fails, the
    others cannot go on: they are ended, and its code is the run's.
    """
    coordinator = f"localhost:{free_port()}"
    own = [sys.executable, "-c", _PROGRAM, *arguments, "--coordinator", coordinator]
    with ExitStack() as stack:
        logs = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(processes)]
        started = [
            # In sessions of their own, or Ctrl-C would reach them twice.
            subprocess.Popen(
                [*own, "--process", str(number)],
                stderr=log if number else None,
                start_new_session=True,
            )
            for number, log in enumerate(logs)
        ]
        for process in started:
            stack.callback(_kill, process)
        _pass_on_signals(started, stack)
        return _outcome(started, logs)


def _pass_on_signals(started: Sequence[Process], stack: ExitStack) -> None:
    def pass_on(number: int, frame: FrameType | None) -> None:
        for process in started:
            process.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        stack.callback(signal.signal, number, signal.signal(number, pass_on))


def _outcome(started: Sequence[Process], logs: Sequence[IO[bytes]]) -> int:
    """The code of process 0 if all end in good order, else that of one that failed."""
    while True:
        codes = [process.poll() for process in started]
        if any(code not in (None, *_ORDERLY) for code in codes):
            return _failure(started, logs)
        if None not in codes:
            return codes[0] or 0
        time.sleep(0.05)


def _failure(started: Sequence[Process], logs: Sequence[IO[bytes]]) -> int:
    """End the processes that still run: they would wait for the one that failed."""
    end = time.monotonic() + _GRACE
    while time.monotonic() < end and any(p.poll() is None for p in started):
        time.sleep(0.05)
    codes = [process.poll() for process in started]
    failed = [n for n, code in enumerate(codes) if code not in (None, *_ORDERLY)]
    first = failed[0]
    if first:
        logs[first].seek(0)
        told = logs[first].read().decode("utf-8", "replace")
        print(f"process {first} failed: {told}", file=sys.stderr)
    code = codes[first] or 0
    return code if code > 0 else 128 - code


def _kill(process: Process) -> None:
    process.kill()
    process.wait()
