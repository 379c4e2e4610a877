"""Processes of one run on this machine: each is the same command with its number."""

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from types import FrameType

from glam.train.parallel import free_port

_PROGRAM = "import sys; from glam.cli import main; sys.exit(main())"
# Seconds that processes have to end before they are killed.
_GRACE = 2.0


def launch(arguments: Sequence[str], processes: int) -> int:
    """Run `glam` with `arguments` in so many processes; the exit code of the run.

    A signal is passed on to all. If one process fails, the others cannot go on: they
    are ended, and its code is the run's.
    """
    coordinator = f"localhost:{free_port()}"
    own = [sys.executable, "-c", _PROGRAM, *arguments, "--coordinator", coordinator]
    # In sessions of their own, or Ctrl-C would reach them twice.
    started = [
        subprocess.Popen([*own, "--process", str(number)], start_new_session=True)
        for number in range(processes)
    ]

    def pass_on(number: int, frame: FrameType | None) -> None:
        for process in started:
            process.send_signal(number)

    before = {n: signal.signal(n, pass_on) for n in (signal.SIGTERM, signal.SIGINT)}
    try:
        return _wait(started)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for process in started:
            process.kill()
            process.wait()


def _wait(started: Sequence[subprocess.Popen[bytes]]) -> int:
    """Until all ended well or one did not."""
    while True:
        codes = [process.poll() for process in started]
        failed = [code for code in codes if code]
        if failed:
            _end(started)
            return failed[0] if failed[0] > 0 else 128 - failed[0]
        if all(code == 0 for code in codes):
            return 0
        time.sleep(0.05)


def _end(started: Sequence[subprocess.Popen[bytes]]) -> None:
    """End the processes that still run: they would wait for the failed one."""
    for process in started:
        process.terminate()
    end = time.monotonic() + _GRACE
    while time.monotonic() < end and any(p.poll() is None for p in started):
        time.sleep(0.05)
