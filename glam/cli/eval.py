"""`glam eval`: task files on a trained model."""

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glam.cli.model_options import loaded, model_options, provenance
from ir.errors import BadArgument
from moegen.cli.program import DONE, Subparsers, add_command, log, print_json

if TYPE_CHECKING:
    from glam.evaluate.evaluation import Result
    from glam.evaluate.language import Language

_HEADERS = ("task", "shots", "examples", "metric", "value", "+-", "chance")
_ALIGN = ("left", "right", "right", "left", "right", "right", "right")


def register(subparsers: Subparsers) -> None:
    """Add the command `eval`."""
    parser = add_command(
        subparsers,
        "eval",
        "evaluate a model on task files",
        "glam eval runs/tiny --tasks examples/tasks/real_names.jsonl --shots 1",
    )
    add = parser.add_argument
    model_options(parser)
    add(
        "--tasks",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="JSONL; docs/evaluation.md says what it holds",
    )
    add("--lm-eval", nargs="+", default=[], metavar="NAME", help="tasks of lm-eval")
    add(
        "--include",
        type=Path,
        metavar="FOLDER",
        help="with lm-eval tasks of your own, as YAML",
    )
    add("--shots", type=int, default=0, metavar="N", help="demonstrations (default: 0)")
    add("--seed", type=int, default=0, help="of which are drawn (default: 0)")
    add("--beams", type=int, default=4, metavar="N", help="of generation (default: 4)")
    add("--batch", type=int, default=16, metavar="N", help="texts at once (16)")
    add("--json", action="store_true", help="print one JSON document")


def run(arguments: argparse.Namespace) -> int:
    """Evaluate. All task files are read before the model is."""
    if not arguments.tasks and not arguments.lm_eval:
        raise BadArgument(
            reason="there is no task: name files with --tasks, such as "
            "examples/tasks/real_names.jsonl, or tasks of lm-eval with --lm-eval"
        )
    from glam.evaluate.task import read_task

    tasks = [read_task(path) for path in arguments.tasks]
    from glam.evaluate.evaluation import averages, check_shots, evaluate
    from glam.evaluate.language import Language

    for task in tasks:
        check_shots(task, arguments.shots)
    model = loaded(arguments)
    with _watched() as watch:
        language = Language(model, arguments.batch, arguments.beams, watch)
        results = [
            evaluate(language, task, arguments.shots, arguments.seed) for task in tasks
        ]
    harness = _harness(arguments, language)
    means = averages(results)
    cut = sum(result.cut for result in results)
    if cut:
        log(
            f"{cut} contexts lost their beginning: the model was trained on "
            f"{model.config.sequence} tokens, and they are longer"
        )
    if arguments.json:
        told = {"model": provenance(arguments.model, model), "seed": arguments.seed}
        how = {"beams": arguments.beams, "results": [asdict(one) for one in results]}
        own = {"lm_eval": harness} if harness else {}
        print_json(told | how | {"averages": means} | own)
        return DONE
    if results:
        _print(results, means)
    for name, figures in harness.items():
        shown = ", ".join(f"{metric} {value:g}" for metric, value in figures.items())
        print(f"lm-eval {name}, shots {arguments.shots}: {shown}")
    return DONE


def _harness(
    arguments: argparse.Namespace, language: "Language"
) -> dict[str, dict[str, Any]]:
    if not arguments.lm_eval:
        return {}
    from glam.cli.harness import run_harness

    return run_harness(language, arguments.lm_eval, arguments.include, arguments.shots)


def _print(results: "list[Result]", means: "dict[str, float | None]") -> None:
    from tabulate import tabulate

    rows = [_row(result) for result in results]
    print(tabulate(rows, _HEADERS, disable_numparse=True, colalign=_ALIGN))
    shown = ", ".join(f"{n} {v:.4f}" for n, v in means.items() if v is not None)
    if shown:
        print(f"\naverages: {shown}")


def _row(result: "Result") -> list[str]:
    return [
        result.task,
        str(result.shots),
        str(result.examples),
        result.metric,
        f"{result.value:.4f}",
        "" if result.error is None else f"{result.error:.4f}",
        "" if result.chance is None else f"{result.chance:.4f}",
    ]


@contextmanager
def _watched() -> Iterator[Callable[[int], None]]:
    """Counts what is done, on a terminal's standard error."""
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("texts")
        total = 0

        def watch(done: int) -> None:
            nonlocal total
            total += done
            progress.update(task, description=f"{total:,} texts")

        yield watch
