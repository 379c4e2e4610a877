"""`glam data inspect`: check a packed store, and show rows as training reads them."""

import argparse
from pathlib import Path
from typing import Any

from glam.cli.data.options import json_option, table
from glam.data.packed import open_packed, read_manifest
from glam.data.rows import Rows
from glam.data.shares import check_tokenizer
from glam.data.tokenizer import load_tokenizer
from moegen.cli.program import DONE, Subparsers, add_command, print_json


def register(subparsers: Subparsers) -> None:
    """Add the step `inspect`."""
    parser = add_command(
        subparsers,
        "inspect",
        "check a packed store against its hash, and show rows of it",
        "glam data inspect packed --length 64 --rows 2 --tokenizer bytes",
    )
    parser.add_argument("store", type=Path, metavar="FOLDER")
    parser.add_argument(
        "--length", type=int, default=1024, help="tokens a row (default: 1024)"
    )
    parser.add_argument(
        "--rows", type=int, default=0, help="rows to show as text (default: 0)"
    )
    parser.add_argument(
        "--tokenizer", help="decodes the rows (default: the one in the manifest)"
    )
    json_option(parser)
    parser.set_defaults(run_step=run)


def run(arguments: argparse.Namespace) -> int:
    """Read the whole store once and report."""
    store = open_packed(arguments.store, verify=True)
    manifest = read_manifest(arguments.store)
    rows = Rows(store, arguments.length)
    facts = {key: value for key, value in manifest.items() if key != "about"}
    facts |= {"rows": len(rows), "verified": True, "about": manifest["about"]}
    if arguments.rows:
        named = arguments.tokenizer or manifest["about"].get("tokenizer", "bytes")
        tokenizer = load_tokenizer(named)
        check_tokenizer(store, tokenizer)
        shown = range(min(arguments.rows, len(rows)))
        facts["shown"] = [_row(rows[i], tokenizer) for i in shown]
    if arguments.json:
        print_json(facts)
        return DONE
    shown_facts = ("documents", "tokens", "vocabulary", "dtype", "part", "rows")
    print(table([[n, f"{facts[n]}"] for n in shown_facts], [str(arguments.store), ""]))
    print("\nThe tokens have the hash that the manifest gives.")
    for number, row in enumerate(facts.get("shown", [])):
        for segment, text in row.items():
            print(f"\nrow {number}, segment {segment}: {text!r}")
    return DONE


def _row(row: Any, tokenizer: Any) -> dict[str, str]:
    segments = [int(s) for s in dict.fromkeys(row["segments"].tolist()) if s]
    return {
        str(s): tokenizer.decode(row["targets"][row["segments"] == s]) for s in segments
    }
