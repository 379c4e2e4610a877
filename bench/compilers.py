"""The same kernels under two libtpu: predicted cycles, and if the schedule changed.

Each kernel that expresses a published time (`backends.tpu.profile.measured`) is
compiled by the jax and libtpu of two interpreters and simulated from both dumps.
Nothing is measured. Run as `python -m bench.compilers --python OLD --python NEW`.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tabulate import tabulate

from backends.tpu.profile.dump import Dump
from backends.tpu.profile.dumps import kept_dump
from backends.tpu.profile.measured import Case, cases
from backends.tpu.profile.simulate import simulate
from moegen.cli.program import guarded, log

_MOST = 0.03  # that an unchanged schedule's cycles may differ by
_OPCODE = re.compile(r"(?<![\w.$#%])[a-z][a-z0-9]*(?:\.[a-z0-9_]+)+|\bs[a-z]+\b")
_BUNDLE = re.compile(r"^\s*(?:0x[0-9a-f]+|0)\s.*?\{(.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Compiled:
    """A kernel as one compiler made it."""

    libtpu: str
    cycles: int
    bundles: int
    schedule: tuple[str, ...]


def main(arguments: list[str]) -> int:
    """Print a table, or JSON; 1 if cycles differ and the schedule does not."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.compilers", description=__doc__
    )
    parser.add_argument("--python", action="append", required=True, metavar="PYTHON")
    parser.add_argument("--only", default="", help="kernels whose name contains this")
    parser.add_argument("--cache", type=Path, help="a folder to keep dumps in")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    if len(given.python) != 2:
        parser.error("name two interpreters: --python OLD --python NEW")
    rows = list(_rows(given.python, given.only, given.cache))
    wrong = [row for row in rows if abs(row["differs"]) > _MOST and not row["changed"]]
    if given.json:
        print(json.dumps({"rows": rows, "obtained": "estimated"}))
    else:
        print(tabulate(rows, headers="keys", floatfmt=".4f"))
        print(f"\n{len(wrong)} of {len(rows)} differ by more than 3% for no reason")
    return 1 if wrong else 0


def _rows(
    pythons: list[str], only: str, cache: Path | None
) -> Iterator[dict[str, Any]]:
    for case in _kernels(only):
        log(f"{case.chip} {case.name}")
        old, new = (compiled(case, python, cache) for python in pythons)
        yield {
            "kernel": case.name,
            "chip": case.chip,
            f"cycles, {old.libtpu}": old.cycles,
            f"cycles, {new.libtpu}": new.cycles,
            "differs": new.cycles / old.cycles - 1,
            "bundles": f"{old.bundles}, {new.bundles}",
            "changed": old.schedule != new.schedule,
        }


def _kernels(only: str) -> Iterator[Case]:
    """The first case of each function and chip."""
    seen = set()
    for case in cases():
        key = case.function, case.chip
        if key not in seen and only in case.name:
            seen.add(key)
            yield case


def compiled(case: Case, python: str, cache: Path | None) -> Compiled:
    """The kernel of a case under the jax and libtpu of an interpreter."""
    held = kept_dump(case.source(case.static), cache, python)
    found = schedule(held)
    cycles = simulate(held, case.chip, sharers=case.sharers).cycles
    return Compiled(held.libtpu, cycles, len(found), found)


def schedule(held: Dump) -> tuple[str, ...]:
    """What each bundle issues, without registers, addresses and comments."""
    text = re.sub(r"/\*.*?\*/", "", held.kernel().bundles, flags=re.DOTALL)
    return tuple(
        " ".join(sorted(_OPCODE.findall(body))) for body in _BUNDLE.findall(text)
    )


if __name__ == "__main__":
    sys.exit(guarded("bench.compilers", lambda: main(sys.argv[1:])))
