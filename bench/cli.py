"""`moegen bench`: measure the layers against what else there is.

Exit 0: done, whether or not every bar was met; 2: bad use; 3: a benchmark failed.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.result import Outcome, Skipped
from bench.setting import SIZES, Setting
from bench.suites import SUITES, rows, title
from moegen.cli.program import (
    BAD_USE,
    DONE,
    Parser,
    Subparsers,
    add_command,
    guarded,
    log,
    print_json,
)

FAILED = 3
DTYPES = ("float32", "bfloat16")
EXIT_CODES = "exit: 0 done, whatever bars were met; 2 bad use; 3 a benchmark failed"


def register(subparsers: Subparsers) -> None:
    """Add the command `bench`."""
    parser = add_command(
        subparsers,
        "bench",
        "measure the layers' speed, memory and start-up against their bars",
        "moegen bench forward training --torch-python ../torch/bin/python",
    )
    parser.epilog = f"{parser.epilog}\nsuites: {', '.join(SUITES)}\n{EXIT_CODES}"
    _add_arguments(parser)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("suites", nargs="*", metavar="SUITE", help="which suites to run (default: all)")
    add("--quick", action="store_true", help="small sizes: shows that it all works")
    add(
        "--set",
        action="append",
        default=[],
        metavar="SIZE=N",
        help=f"a size: {', '.join(SIZES)}",
    )
    add("--dtype", action="append", choices=DTYPES, help="only this dtype")
    add("--budget", type=float, metavar="SECONDS", help="time for each row (20)")
    add("--samples", type=int, metavar="N", help="at most so many paired runs (31)")
    add(
        "--torch-python",
        type=Path,
        metavar="PATH",
        help="a Python with torch and transformers, for the suites gated and decode",
    )
    add("--json", action="store_true", help="print one JSON document")


def run(arguments: argparse.Namespace) -> int:
    """Run the suites; print a table of each as it ends, or one document at the end."""
    setting = _setting(arguments)
    names = tuple(dict.fromkeys(arguments.suites)) or SUITES
    wrong = [name for name in names if name not in SUITES]
    if isinstance(setting, str) or wrong:
        known = f"unknown suite {', '.join(wrong)}; suites are {', '.join(SUITES)}"
        log(f"moegen bench: {setting if isinstance(setting, str) else known}")
        return BAD_USE
    # The figures are of the CPU, also on a machine that has something else.
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    from bench.fingerprint import fingerprint
    from bench.report import closing, document, table

    outcomes = []
    for outcome in measured(names, setting):
        outcomes.append(outcome)
        if not arguments.json:
            print(f"{table(outcome)}\n", flush=True)
    machine = fingerprint(setting, outcomes)
    if arguments.json:
        print_json(document(outcomes, machine))
    else:
        print(closing(outcomes, machine))
    return FAILED if any(outcome.failed for outcome in outcomes) else DONE


def measured(names: Sequence[str], setting: Setting) -> Iterator[Outcome]:
    """Each suite's outcome; one that fails does not stop the next, Ctrl-C does."""
    for number, name in enumerate(names, start=1):
        outcome = Outcome(name, title(name))
        interrupted = False
        log(f"[{number}/{len(names)}] {name}")
        try:
            for row in rows(name, setting):
                outcome.rows.append(row)
                log(f"  {row.case} {row.dtype}")
        except Skipped as reason:
            outcome.skipped = str(reason)
        except KeyboardInterrupt:
            outcome.failed, interrupted = "interrupted", True
        except Exception as error:
            outcome.failed = f"{type(error).__name__}: {error}"
        yield outcome
        if interrupted:
            return


def _setting(arguments: argparse.Namespace) -> Setting | str:
    """The setting asked for, or what is wrong with it."""
    setting = Setting().quick() if arguments.quick else Setting()
    given: dict[str, Any] = {}
    for told in arguments.set:
        name, _, value = told.partition("=")
        if name not in SIZES or not value.isdecimal() or int(value) < 1:
            return f"--set {told}: write SIZE=N, N from 1 on, of {', '.join(SIZES)}"
        given[name] = int(value)
    setting = replace(setting, torch_python=arguments.torch_python, **given)
    if setting.k > setting.experts:
        return f"k = {setting.k} is more than experts = {setting.experts}"
    if arguments.dtype:
        setting = replace(setting, dtypes=tuple(dict.fromkeys(arguments.dtype)))
    effort = setting.effort
    if arguments.samples is not None:
        if arguments.samples < 1:
            return f"--samples {arguments.samples}: one at least"
        most = arguments.samples
        effort = replace(effort, most=most, least=min(effort.least, most))
    if arguments.budget is not None:
        if not arguments.budget > 0:
            return f"--budget {arguments.budget:g}: more than 0 seconds"
        effort = replace(effort, budget=arguments.budget)
    return replace(setting, effort=effort)


def main(argv: list[str] | None = None) -> int:
    """`python -m bench`: the command without `moegen` before it."""
    given = sys.argv[1:] if argv is None else argv
    parser = Parser(prog="python -m bench")
    subparsers = parser.add_subparsers(dest="command")
    register(subparsers)
    return guarded("bench", lambda: run(parser.parse_args(["bench", *given])))
