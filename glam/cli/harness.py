"""Tasks of EleutherAI's lm-eval, as `glam eval` runs them."""

import contextlib
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ir.errors import BadArgument, MoegenError, nearest

if TYPE_CHECKING:
    from glam.evaluate.language import Language


def run_harness(
    language: "Language", names: Sequence[str], include: Path | None, shots: int
) -> dict[str, dict[str, Any]]:
    """The figures of each task, {task: {metric: value}}.

    `include` is a folder with task files of the user's own (YAML). What lm-eval prints
    goes to standard error. Raises `BadArgument` for a task that is not there, and where
    lm-eval cannot run one: most of its tasks fetch their data from the network.
    """
    import lm_eval

    from glam.evaluate.harness import Harness

    if include is not None and not include.is_dir():
        raise BadArgument(reason=f"--include {include}: there is no such folder")
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    with contextlib.redirect_stdout(sys.stderr):
        manager = _manager(names, include)
        try:
            found = lm_eval.simple_evaluate(
                model=Harness(language),
                tasks=list(names),
                num_fewshot=shots,
                task_manager=manager,
                bootstrap_iters=0,
            )
        except MoegenError:
            raise
        except Exception as error:
            # Data sets fail in as many ways as there are libraries under them.
            why = " ".join(str(error).split()) or type(error).__name__
            raise BadArgument(
                reason=f"lm-eval cannot run {', '.join(names)}: {why}; most of its "
                "tasks fetch data from the network"
            ) from None
    return {name: _figures(made) for name, made in found["results"].items()}


def _manager(names: Sequence[str], include: Path | None) -> Any:
    """Knows all tasks that are asked for; lm-eval's own only if they are needed."""
    from lm_eval.tasks import TaskManager

    if include is not None:
        own = TaskManager(include_path=str(include), include_defaults=False)
        if set(names) <= set(own.all_tasks):
            return own
    manager = TaskManager(include_path=None if include is None else str(include))
    known = list(manager.all_tasks)
    for name in names:
        if name not in known:
            reason = (
                f"lm-eval has no task '{name}'; name one of its {len(known):,}, or one "
                f"of a YAML file in the folder of --include{nearest(name, known)}"
            )
            raise BadArgument(reason=reason)
    return manager


def _figures(made: dict[str, Any]) -> dict[str, Any]:
    """Numbers alone; lm-eval writes N/A where an error was not estimated."""
    return {
        name.removesuffix(",none"): value
        for name, value in made.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
