"""How long a user waits before anything runs, each in fresh child processes."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace

from bench.result import Bar, Row
from bench.setting import Setting
from bench.timing import Clock, take_turns

TITLE = "seconds before anything runs, each in a fresh process"

# Each prints the seconds it wants counted.
IMPORT = """
import time, jax
start = time.perf_counter()
import moegen
print(time.perf_counter() - start)
"""
DRIVER = IMPORT.replace("import moegen", "import moegen.compiler")
COMPILE = """
import pathlib, sys, time
from moegen.compiler import compile
from moegen.layers import find_layer
start = time.perf_counter()
compile(find_layer(sys.argv[1]), cache=pathlib.Path(sys.argv[2]))
print(time.perf_counter() - start)
"""
HELP = "import sys; from moegen.cli import main; sys.exit(main(['--help']))"


def run(setting: Setting) -> Iterator[Row]:
    """Bars are in seconds; what has none is there to read the others by."""
    effort = replace(setting.effort, most=min(9, setting.effort.most))
    with tempfile.TemporaryDirectory() as folder:
        cases: dict[str, tuple[Clock, float | None]] = {
            "DSL to loaded module, glam": (_told(COMPILE, "glam", folder), 1.0),
            "DSL to loaded module, mixtral": (_told(COMPILE, "mixtral", folder), 1.0),
            "import moegen beyond jax": (_told(IMPORT), 0.3),
            "import moegen.compiler beyond jax": (_told(DRIVER), None),
            "moegen --help, whole process": (_whole(HELP), 0.5),
            "python -c pass, whole process": (_whole("pass"), None),
        }
        times = take_turns({case: c for case, (c, _) in cases.items()}, effort)
    for case, (_, limit) in cases.items():
        bar = None if limit is None else Bar(limit, of="ours")
        yield Row(case, "", times[case], bar=bar, unit="s")


def _told(script: str, *arguments: str) -> Clock:
    """The seconds that the child prints."""
    return lambda: float(_child(script, *arguments))


def _whole(script: str) -> Clock:
    """The seconds of the child process, start to end."""

    def measure() -> float:
        start = time.perf_counter()
        _child(script)
        return time.perf_counter() - start

    return measure


def _child(script: str, *arguments: str) -> str:
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise RuntimeError(f"a child process ended with {done.returncode}: {last[0]}")
    return done.stdout
