"""`glam data filter`: keep texts by quality, with Pareto sampling."""

import argparse
from pathlib import Path

from glam.cli.data.options import (
    json_option,
    opened,
    output_options,
    picture_option,
    sources_argument,
    table,
)
from glam.data.quality import QualityClassifier
from glam.data.records import record_file
from glam.data.report import SourceReport, check_picture, draw
from glam.data.sampling import ALPHA, judge
from moegen.cli.program import DONE, Subparsers, add_command, log, print_json


def register(subparsers: Subparsers) -> None:
    """Add the step `filter`."""
    parser = add_command(
        subparsers,
        "filter",
        "keep good texts, and few of the others, by Pareto sampling",
        "glam data filter web.jsonl --classifier quality.safetensors "
        "--out kept.jsonl --picture kept.png",
    )
    sources_argument(parser)
    parser.add_argument(
        "--classifier",
        type=Path,
        required=True,
        help="a file of `glam data classify train`",
    )
    parser.add_argument(
        "--alpha",
        type=float,
        default=ALPHA,
        help="keep a text of score s with probability (2 - s)^-alpha (default: 9)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="another seed, another draw (default: 0)"
    )
    output_options(parser, True, "the texts that are kept, .jsonl[.gz]")
    picture_option(parser)
    json_option(parser)
    parser.set_defaults(run_step=run)


def run(arguments: argparse.Namespace) -> int:
    """Filter the sources in turn and report on each."""
    if arguments.picture:
        check_picture(arguments.picture)
    classifier = QualityClassifier.load(arguments.classifier)
    found = opened(arguments.sources, arguments, arguments.out)
    reports = []
    with record_file(arguments.out, arguments.overwrite) as writer:
        for name, texts in found.items():
            report = SourceReport(name)
            judged = judge(
                texts, classifier, alpha=arguments.alpha, seed=arguments.seed
            )
            for document, score, kept in judged:
                report.add(document.text, score, kept)
                if kept:
                    writer.write(document, quality=round(score, 6))
            reports.append(report)
    if arguments.picture:
        draw(reports, arguments.picture)
    if arguments.json:
        options = {"alpha": arguments.alpha, "seed": arguments.seed}
        print_json({**options, "sources": [report.document() for report in reports]})
        return DONE
    print(_account(reports))
    for path in filter(None, (arguments.out, arguments.picture)):
        log(f"wrote {path}")
    return DONE


def _account(reports: list[SourceReport]) -> str:
    rows = [
        [
            report.name,
            f"{report.documents:,}",
            f"{report.kept:,}",
            f"{report.documents - report.kept:,}",
            f"{report.kept_characters / max(report.characters, 1):.1%}",
            f"{report.mean_score:.3f}",
        ]
        for report in reports
    ]
    headers = ["source", "documents", "kept", "dropped", "characters kept"]
    return table(rows, [*headers, "mean score"])
