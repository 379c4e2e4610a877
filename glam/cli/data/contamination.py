"""`glam data contamination`: which evaluation examples the training data holds."""

import argparse
from typing import Any

from glam.cli.data.options import (
    SOURCE,
    chained,
    json_option,
    opened,
    reading_options,
    table,
)
from glam.data.contamination import EvaluationSet, evaluation_set, look_for
from glam.data.readers import Reading
from glam.data.sources import documents
from moegen.cli.program import DONE, NO, Subparsers, add_command, log, print_json


def register(subparsers: Subparsers) -> None:
    """Add the step `contamination`."""
    parser = add_command(
        subparsers,
        "contamination",
        "count evaluation examples that share a run of 8 to 13 words with training "
        "data; exit 1 if there are any",
        "glam data contamination web.jsonl --evaluation task.jsonl "
        "--evaluation-field question",
    )
    parser.add_argument(
        "sources", metavar="TRAINING", nargs="+", help=f"training data: {SOURCE}"
    )
    parser.add_argument(
        "--evaluation",
        metavar="SOURCE",
        nargs="+",
        required=True,
        help="evaluation sets, an example a row",
    )
    parser.add_argument(
        "--evaluation-field",
        metavar="FIELD",
        default="text",
        help="the field of an example that is looked for (default: text)",
    )
    reading_options(parser)
    json_option(parser)
    parser.set_defaults(run_step=run)


def run(arguments: argparse.Namespace) -> int:
    """Read the training data once, looking for all sets."""
    training = opened(arguments.sources, arguments)
    # A line of a plain text file is an example, whatever the training data's split is.
    reading = Reading(arguments.evaluation_field, "line", arguments.encoding)
    sets = [evaluation_set(n, documents(n, reading)) for n in arguments.evaluation]
    read = look_for(sets, chained(training))
    contaminated = any(one.overlaps() for one in sets)
    if arguments.json:
        facts = [_document(one) for one in sets]
        print_json({"training_documents": read, "evaluation": facts})
        return NO if contaminated else DONE
    rows = [_row(one) for one in sets]
    headers = ["evaluation set", "examples", "n", "too short", "contaminated", "share"]
    print(table(rows, headers))
    log(f"{read:,} training documents read; --json lists the examples")
    return NO if contaminated else DONE


def _row(one: EvaluationSet) -> list[str]:
    found = len(one.overlaps())
    counts = [f"{c:,}" for c in (len(one.origins), one.n, one.too_short, found)]
    return [one.name, *counts, f"{found / len(one.origins):.1%}"]


def _document(one: EvaluationSet) -> dict[str, Any]:
    overlaps = one.overlaps()
    return {
        "name": one.name,
        "examples": len(one.origins),
        "n": one.n,
        "too_short": one.too_short,
        "contaminated": len(overlaps),
        "overlaps": [vars(overlap) for overlap in overlaps],
    }
