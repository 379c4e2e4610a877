"""`glam data pack`: texts to packed tokens on disk."""

import argparse
from typing import Any

from glam.cli.data.options import (
    chained,
    json_option,
    opened,
    output_options,
    sources_argument,
    table,
)
from glam.data.packed import write_packed
from glam.data.parts import PARTS, part_of
from glam.data.tokenizer import load_tokenizer
from moegen.cli.program import DONE, Subparsers, add_command, log, print_json

_SHOWN = ("documents", "characters", "tokens", "vocabulary")


def register(subparsers: Subparsers) -> None:
    """Add the step `pack`."""
    parser = add_command(
        subparsers,
        "pack",
        "tokenize texts into one array on disk, which training maps",
        "glam data pack kept.jsonl --tokenizer tokens.model --part train --out packed",
    )
    sources_argument(parser)
    parser.add_argument(
        "--tokenizer",
        default="bytes",
        help="'bytes' or a SentencePiece .model file (default: bytes)",
    )
    parser.add_argument(
        "--part",
        choices=PARTS,
        default="all",
        help="pack one side of a split by a hash of the text; a single document is cut "
        "(default: all)",
    )
    parser.add_argument(
        "--held-out",
        type=float,
        default=0.05,
        help="the share of documents in the validation part (default: 0.05)",
    )
    output_options(parser, True, "the folder of the packed store")
    json_option(parser)
    parser.set_defaults(run_step=run)


def run(arguments: argparse.Namespace) -> int:
    """Pack all sources, one after another."""
    tokenizer = load_tokenizer(arguments.tokenizer)
    found = opened(arguments.sources, arguments, arguments.out)
    about: dict[str, Any] = {
        "sources": arguments.sources,
        "tokenizer": arguments.tokenizer,
        "held_out": None if arguments.part == "all" else arguments.held_out,
    }
    names = ", ".join(arguments.sources)
    manifest = write_packed(
        arguments.out,
        part_of(chained(found), arguments.part, arguments.held_out, names),
        tokenizer,
        part=arguments.part,
        about=about,
        overwrite=arguments.overwrite,
    )
    if arguments.json:
        print_json(manifest)
        return DONE
    rows = [[name, f"{manifest[name]:,}"] for name in _SHOWN]
    rate = manifest["characters"] / manifest["tokens"]
    print(table([*rows, ["characters a token", f"{rate:.2f}"]], ["packed", ""]))
    log(f"wrote {arguments.out}")
    return DONE
