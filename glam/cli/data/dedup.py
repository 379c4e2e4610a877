"""`glam data dedup`: leave out texts that repeat an earlier one."""

import argparse
from typing import Any

from glam.cli.data.options import (
    json_option,
    opened,
    output_options,
    sources_argument,
    table,
)
from glam.data.near_duplicates import Deduplicator
from glam.data.records import record_file
from moegen.cli.program import DONE, Subparsers, add_command, log, print_json


def register(subparsers: Subparsers) -> None:
    """Add the step `dedup`."""
    parser = add_command(
        subparsers,
        "dedup",
        "leave out near-duplicates, within and across sources",
        "glam data dedup wiki.jsonl web.jsonl --threshold 0.8 --out unique.jsonl",
    )
    sources_argument(parser)
    parser.add_argument(
        "--threshold",
        type=float,
        default=0.8,
        help="least similarity of two texts' runs of five words (default: 0.8)",
    )
    output_options(parser, True, "the texts that are kept, .jsonl[.gz]")
    json_option(parser)
    parser.set_defaults(run_step=run)


def run(arguments: argparse.Namespace) -> int:
    """Compare all texts with the earlier ones, source after source."""
    found = opened(arguments.sources, arguments, arguments.out)
    duplicates = Deduplicator(arguments.threshold)
    reports: list[dict[str, Any]] = []
    pairs: list[dict[str, Any]] = []
    with record_file(arguments.out, arguments.overwrite) as writer:
        for name, texts in found.items():
            report: dict[str, Any] = {"source": name, "documents": 0}
            report |= {"kept": 0, "equal": 0}
            for document in texts:
                report["documents"] += 1
                match = duplicates.match(document)
                if match is None:
                    report["kept"] += 1
                    writer.write(document)
                    continue
                report["equal"] += match.similarity == 1.0
                pairs.append({"dropped": document.origin, **match._asdict()})
            reports.append(report)
    if arguments.json:
        facts = {"threshold": arguments.threshold, "sources": reports}
        print_json({**facts, "duplicates": pairs})
        return DONE
    print(_account(reports))
    log(f"wrote {arguments.out}")
    return DONE


def _account(reports: list[dict[str, Any]]) -> str:
    rows = []
    for report in reports:
        similar = report["documents"] - report["kept"] - report["equal"]
        counts = (report["documents"], report["kept"], report["equal"], similar)
        rows.append([report["source"], *(f"{count:,}" for count in counts)])
    return table(rows, ["source", "documents", "kept", "equal", "similar"])
