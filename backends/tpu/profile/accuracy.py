"""Holds the simulator against published times of real chips.

`python -m backends.tpu.profile.accuracy MEASURED.json` compares kernels of ours with a
file of measurements (`measured`). `--tokamax WHEEL_OR_FOLDER` compares Tokamax' grouped
matmul with the times that it ships (`tokamax`); its kernel needs jax 0.11.1 or newer in
the interpreter named by `--python`. Half of the times, by a stated rule, calibrated the
constants in `units.json`; the other half tests them. All estimates are made ahead of
time, without a device.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import correlation, median

from tabulate import tabulate

from backends.tpu.profile import measured, tokamax
from backends.tpu.profile.latencies import latencies
from ir.errors import MoegenError


@dataclass(frozen=True)
class Row:
    """A published time beside its estimate; both in the same unit."""

    record: str
    group: str
    half: str
    name: str
    told: float
    guess: float

    @property
    def error(self) -> float:
        """Signed, as a share of what was published."""
        return self.guess / self.told - 1

    def __str__(self) -> str:
        return f"{self.record} {self.name}: {100 * self.error:+.1f}%"


def main(arguments: list[str]) -> int:
    """Print one row a time, then each group's errors on both halves."""
    given = _parser().parse_args(arguments)
    if not given.measured and not given.tokamax:
        print("error: name a file of measurements, or --tokamax", file=sys.stderr)
        return 2
    found: list[Row | str] = []
    try:
        for each in _times(given):
            print(f"... {each}", flush=True)
            found.append(each)
    except MoegenError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    rows = [each for each in found if isinstance(each, Row)]
    failed = [each for each in found if isinstance(each, str)]
    _print(rows)
    for failure in failed:
        print(f"failed: {failure}")
    return 1 if failed or not rows else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("measured", type=Path, nargs="?", metavar="MEASURED.json")
    parser.add_argument("--tokamax", type=Path, metavar="WHEEL_OR_FOLDER")
    parser.add_argument("--chip", choices=sorted(tokamax.DEVICES), action="append")
    parser.add_argument("--half", choices=("calibrate", "test"))
    parser.add_argument("--only", default="", help="names that hold this word")
    parser.add_argument("--cache", type=Path, help="a folder to keep dumps in")
    parser.add_argument("--python", default=sys.executable)
    return parser


def _times(given: argparse.Namespace) -> Iterator[Row | str]:
    """Each time with its estimate; a sentence where there can be none."""
    if given.measured:
        yield from _ours(given)
    for chip in given.chip or tokamax.DEVICES if given.tokamax else ():
        yield from _theirs(chip, given)


def _ours(given: argparse.Namespace) -> Iterator[Row | str]:
    records = {r["id"]: r for r in json.loads(given.measured.read_text())["records"]}
    for case in measured.cases():
        name = f"{case.group} {case.name}"
        if case.record not in records or given.only not in name:
            continue
        if given.half not in (None, case.half):
            continue
        clock = latencies(case.chip)["clock_hz"]
        told = measured.measured(case, records[case.record], clock)
        try:
            guess = measured.estimated(case, given.cache, given.python)
        except MoegenError as error:
            yield f"{case.record} {case.name}: {error}"
        else:
            yield Row(case.record, case.group, case.half, case.name, told, guess)


def _theirs(chip: str, given: argparse.Namespace) -> Iterator[Row | str]:
    for index, entry in enumerate(tokamax.entries(given.tokamax, chip)):
        half = "test" if index % 2 else "calibrate"
        if given.half not in (None, half) or given.only not in entry.name:
            continue
        record, group, told = entry.key[:8], f"tokamax {chip}", entry.milliseconds
        try:
            found = tokamax.estimate(entry, given.tokamax, given.cache, given.python)
        except MoegenError as error:
            yield f"{record} {entry.name}: {error}"
        else:
            guess = found.milliseconds
            yield Row(record, group, half, entry.name, told, guess)


def _print(rows: list[Row]) -> None:
    heads = ("record", "group", "half", "kernel", "measured", "estimate", "error %")
    table = [
        (r.record, r.group, r.half, r.name, r.told, r.guess, f"{100 * r.error:+.1f}")
        for r in rows
    ]
    print("\n" + tabulate(table, heads, floatfmt=".5g"))
    columns = ("group", "half", "n", "median signed %", "median %", "worst %", "rank")
    groups = sorted({(row.group, row.half) for row in rows})
    summaries = [_summary(*group, rows) for group in groups]
    # The ranks keep the digits that they have.
    print("\n" + tabulate(summaries, columns, floatfmt=".1f", disable_numparse=[6]))
    print("\nmeasured: cycles, or ms of Tokamax; rank: correlation of the times' ranks")


def _summary(group: str, half: str, rows: list[Row]) -> tuple[object, ...]:
    held = [row for row in rows if (row.group, row.half) == (group, half)]
    errors = [100 * row.error for row in held]
    sizes = [abs(error) for error in errors]
    told, guess = _ranks([r.told for r in held]), _ranks([r.guess for r in held])
    varied = len(set(told)) > 1 and len(set(guess)) > 1
    rank = f"{correlation(told, guess):.3f}" if varied else ""
    return group, half, len(held), median(errors), median(sizes), max(sizes), rank


def _ranks(values: list[float]) -> list[float]:
    """The place of each in their order; equal ones share the mean of theirs."""
    order = sorted(values)
    return [
        (order.index(v) + len(order) - 1 - order[::-1].index(v)) / 2 for v in values
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
