"""`glam eval`: task files on a trained model."""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glam.cli.model_options import loaded, model_options, provenance
from glam.cli.numbers import whole_numbers
from ir.errors import BadArgument, MoegenError
from moegen.cli.program import DONE, Subparsers, add_command, log, print_json

if TYPE_CHECKING:
    from glam.evaluate.evaluation import Result
    from glam.evaluate.language import Language
    from glam.evaluate.task import Task
    from glam.loading import Loaded

_HEADERS = ("task", "shots", "examples", "metric", "value", "+-", "chance")
_ALIGN = ("left", "right", "right", "left", "right", "right", "right")


def register(subparsers: Subparsers) -> None:
    """Add the command `eval`."""
    parser = add_command(
        subparsers,
        "eval",
        "evaluate a model on task files",
        "glam eval runs/tiny --tasks examples/tasks/real_names.jsonl --shots 0,1",
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
    add("--shots", default="0", metavar="N,...", help="demonstrations (default: 0)")
    add("--seed", type=int, default=0, help="of which are drawn (default: 0)")
    add("--beams", type=int, default=4, metavar="N", help="of generation (default: 4)")
    add("--batch", type=int, default=16, metavar="N", help="texts at once (16)")
    add("--json", action="store_true", help="print one JSON document")


def run(arguments: argparse.Namespace) -> int:
    """Evaluate. All task files are read before the model is.

    What is finished is printed also where the rest fails or is interrupted.
    """
    if not arguments.tasks and not arguments.lm_eval:
        raise BadArgument(
            reason="there is no task: name files with --tasks, such as "
            "examples/tasks/real_names.jsonl, or tasks of lm-eval with --lm-eval"
        )
    from glam.evaluate.task import read_task

    tasks = [read_task(path) for path in arguments.tasks]
    from glam.evaluate.evaluation import check_shots

    numbers = whole_numbers("--shots", arguments.shots, 0, "0,1,4")
    plan = [
        (task, shots)
        for shots in numbers
        for task in tasks
        # A text takes no demonstrations: beside other numbers it is predicted once.
        if task.kind != "text" or shots == numbers[0]
    ]
    for task, shots in plan:
        check_shots(task, shots)
    model = loaded(arguments)
    found = _Found([], [])
    try:
        _evaluate(arguments, plan, numbers, model, found)
    except (KeyboardInterrupt, MoegenError):
        if found.results or found.harness:
            _tell(arguments, model, found, complete=False)
            log("stopped early: the figures printed are of what was finished")
        raise
    _tell(arguments, model, found, complete=True)
    return DONE


@dataclass(frozen=True)
class _Found:
    """What is finished: of task files, and of lm-eval's tasks."""

    results: "list[Result]"
    harness: list[dict[str, Any]]


def _evaluate(
    arguments: argparse.Namespace,
    plan: "Sequence[tuple[Task, int]]",
    numbers: Sequence[int],
    model: "Loaded",
    found: _Found,
) -> None:
    """Add each result to what is found as soon as it is there."""
    from glam.evaluate.evaluation import evaluate
    from glam.evaluate.language import Language

    with _watched() as watch:
        language = Language(model, arguments.batch, arguments.beams, watch)
        for task, shots in plan:
            found.results.append(evaluate(language, task, shots, arguments.seed))
    if arguments.lm_eval:
        for shots in numbers:
            found.harness.extend(_harness(arguments, language, shots))


def _tell(
    arguments: argparse.Namespace, model: "Loaded", found: _Found, complete: bool
) -> None:
    """Print what is finished; `complete` says whether that is all that was asked."""
    cut = sum(result.cut for result in found.results)
    if cut:
        log(
            f"{cut} contexts lost their beginning: the model was trained on "
            f"{model.config.sequence} tokens, and they are longer"
        )
    if not arguments.json:
        _print(found.results, found.harness)
        return
    told = {"model": provenance(arguments.model, model), "seed": arguments.seed}
    told |= {"beams": arguments.beams, "complete": complete}
    told |= {"results": [asdict(one) for one in found.results]}
    own = {"lm_eval": found.harness} if found.harness else {}
    print_json(told | {"averages": _means(found.results)} | own)


def _means(results: "list[Result]") -> list[dict[str, Any]]:
    """The averages of each number of shots."""
    from glam.evaluate.evaluation import averages

    numbers = dict.fromkeys(result.shots for result in results)
    return [
        {"shots": shots, **averages([one for one in results if one.shots == shots])}
        for shots in numbers
    ]


def _harness(
    arguments: argparse.Namespace, language: "Language", shots: int
) -> list[dict[str, Any]]:
    """The figures of lm-eval's tasks with so many demonstrations."""
    from glam.cli.harness import run_harness

    found = run_harness(language, arguments.lm_eval, arguments.include, shots)
    return [{"task": name, "shots": shots, **told} for name, told in found.items()]


def _print(results: "list[Result]", harness: list[dict[str, Any]]) -> None:
    from tabulate import tabulate

    if results:
        rows = [_row(result) for result in results]
        print(tabulate(rows, _HEADERS, disable_numparse=True, colalign=_ALIGN))
    for line in _means(results):
        shots = line.pop("shots")
        shown = [f"{name} {v:.4f}" for name, v in line.items() if v is not None]
        if shown:
            print(f"\naverages, shots {shots}: {', '.join(shown)}", end="")
    print()
    for line in harness:
        name, shots = line.pop("task"), line.pop("shots")
        shown = [f"{metric} {value:g}" for metric, value in line.items()]
        print(f"lm-eval {name}, shots {shots}: {', '.join(shown)}")


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
