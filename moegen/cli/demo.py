"""`moegen demo`: the main job, end to end, on this machine."""

import argparse
import sys
from pathlib import Path

from ir.errors import CacheUnusable
from moegen.cli.program import DONE, NO, Subparsers, add_command, log


def register(subparsers: Subparsers) -> None:
    """Add the command `demo`."""
    parser = add_command(
        subparsers,
        "demo",
        "compile GLaM's layer, run it on real text, judge and time it, in two minutes",
        "moegen demo --out generated",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        help="where the emitted module is written (default: ~/.cache/moegen)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Tell the story; exit 1 if the layer differs from the oracle."""
    from moegen.demo import Story, tell

    story = Story(
        cache=arguments.out, progress=_show if sys.stderr.isatty() else _quiet
    )
    try:
        tell(story)
    except CacheUnusable as error:
        raise CacheUnusable(**error.facts | {"flag": "--out"}) from None
    if story.ok:
        return DONE
    wrong = [name for name, error in story.errors.items() if error > 1e-5]
    log(f"moegen: the layer differs from the oracle in {', '.join(wrong)}")
    return NO


def _show(step: str) -> None:
    log(f"... {step}")


def _quiet(step: str) -> None:
    del step
