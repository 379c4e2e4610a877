"""`glam data classify`: train the quality classifier, and score texts with it."""

import argparse
import contextlib
from itertools import chain
from pathlib import Path

from glam.cli.data.options import (
    SOURCE,
    json_option,
    opened,
    output_options,
    picture_option,
    reading_options,
    sources_argument,
    table,
)
from glam.data.quality import Features, QualityClassifier
from glam.data.records import record_file
from glam.data.report import SourceReport, check_picture, draw
from glam.data.sampling import judge
from glam.data.training_quality import Trained, train_classifier
from glam.data.writing import check_free
from moegen.cli.program import BAD_USE, DONE, Subparsers, add_command, log, print_json


def register(subparsers: Subparsers) -> None:
    """Add the step `classify` with its two halves."""
    parser = add_command(
        subparsers,
        "classify",
        "train the quality classifier, or score texts with it",
        "glam data classify train --positive good.jsonl --negative web.jsonl "
        "--out quality.safetensors",
    )
    parser.set_defaults(run_step=lambda _: _help(parser))
    halves = parser.add_subparsers(dest="half", metavar="HALF")
    _register_train(halves)
    _register_score(halves)


def _help(parser: argparse.ArgumentParser) -> int:
    parser.print_help()
    return BAD_USE


def _register_train(halves: Subparsers) -> None:
    parser = add_command(
        halves,
        "train",
        "learn to tell good examples from others",
        "glam data classify train --positive good.jsonl --negative web.jsonl "
        "--out quality.safetensors",
    )
    for name, which in (("positive", "curated texts"), ("negative", "other texts")):
        parser.add_argument(
            f"--{name}",
            nargs="+",
            required=True,
            metavar="SOURCE",
            help=f"{which}: {SOURCE}",
        )
    reading_options(parser)
    parser.add_argument(
        "--features", type=int, default=Features.size, help="(default: 262144)"
    )
    parser.add_argument(
        "--limit", type=int, default=50_000, help="examples of a kind (default: 50000)"
    )
    output_options(parser, True, "the classifier's file, .safetensors")
    json_option(parser)
    parser.set_defaults(run_step=_train)


def _register_score(halves: Subparsers) -> None:
    parser = add_command(
        halves,
        "score",
        "score texts from 0 to 1, without dropping any",
        "glam data classify score web.jsonl --classifier quality.safetensors "
        "--picture scores.png",
    )
    sources_argument(parser)
    parser.add_argument("--classifier", type=Path, required=True)
    output_options(parser, False, "write the texts with their scores, .jsonl[.gz]")
    picture_option(parser)
    json_option(parser)
    parser.set_defaults(run_step=_score)


def _train(arguments: argparse.Namespace) -> int:
    check_free(arguments.out, arguments.overwrite)
    positives = opened(arguments.positive, arguments, arguments.out)
    negatives = opened(arguments.negative, arguments, arguments.out)
    trained = train_classifier(
        chain.from_iterable(positives.values()),
        chain.from_iterable(negatives.values()),
        features=Features(size=arguments.features),
        limit=arguments.limit,
    )
    trained.classifier.save(arguments.out, arguments.overwrite)
    if arguments.json:
        held = vars(trained.held) if trained.held else None
        counts = {"positives": trained.positives, "negatives": trained.negatives}
        print_json({"classifier": str(arguments.out), **counts, "held_out": held})
        return DONE
    print(_account(trained))
    log(f"wrote {arguments.out}")
    return DONE


def _account(trained: Trained) -> str:
    learnt = f"{trained.positives:,} positives, {trained.negatives:,} negatives"
    if trained.held is None:
        return f"{learnt}; too few to hold any out, so not measured"
    held = trained.held
    rows = [
        ["held-out examples", f"{held.examples:,}"],
        ["accuracy at 0.5", f"{held.accuracy:.3f}"],
        ["area under the ROC curve", f"{held.auc:.3f}"],
        ["mean score of positives", f"{held.positive_score:.3f}"],
        ["mean score of negatives", f"{held.negative_score:.3f}"],
    ]
    return table(rows, [learnt, ""])


def _score(arguments: argparse.Namespace) -> int:
    if arguments.picture:
        check_picture(arguments.picture)
    classifier = QualityClassifier.load(arguments.classifier)
    found = opened(arguments.sources, arguments, arguments.out)
    reports = []
    with contextlib.ExitStack() as stack:
        writer = (
            stack.enter_context(record_file(arguments.out, arguments.overwrite))
            if arguments.out
            else None
        )
        for name, texts in found.items():
            report = SourceReport(name)
            for document, score, _ in judge(texts, classifier):
                report.add(document.text, score, True)
                if writer:
                    writer.write(document, quality=round(score, 6))
            reports.append(report)
    if arguments.picture:
        draw(reports, arguments.picture)
    if arguments.json:
        print_json({"sources": [report.document() for report in reports]})
        return DONE
    rows = [[r.name, f"{r.documents:,}", f"{r.mean_score:.3f}"] for r in reports]
    print(table(rows, ["source", "documents", "mean score"]))
    for path in filter(None, (arguments.out, arguments.picture)):
        log(f"wrote {path}")
    return DONE
