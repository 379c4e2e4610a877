"""`glam data mix`: weights of sources, and how often each is then read."""

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from glam.cli.data.options import json_option, output_options, table, watched
from glam.data.mixture import (
    TABLE_3,
    Part,
    check_weight,
    epochs,
    write_mixture,
)
from glam.data.packed import is_packed, read_manifest
from glam.data.sources import documents
from glam.data.store import document_ids
from glam.data.tokenizer import load_tokenizer
from ir.errors import BadArgument
from moegen.cli.program import DONE, Subparsers, add_command, log, print_json


def register(subparsers: Subparsers) -> None:
    """Add the step `mix`."""
    parser = add_command(
        subparsers,
        "mix",
        "weigh sources, report the epochs of each, and write the mixture for training",
        "glam data mix wikipedia=packed/wiki@0.06 books=packed/books@0.2 "
        "--tokens 1e9 --out mixture.json",
    )
    parser.add_argument(
        "parts",
        metavar="NAME=SOURCE@WEIGHT",
        nargs="*",
        help="a packed store or a source of texts; with --preset, NAME=SOURCE",
    )
    parser.add_argument(
        "--preset",
        choices=["table3"],
        help="the weights of the paper's Table 3, for the names "
        f"{', '.join(TABLE_3)}; without sources, show that table",
    )
    parser.add_argument(
        "--tokens",
        type=float,
        default=600e9,
        help="tokens that training reads in all (default: 600e9, as GLaM 64B/64E)",
    )
    parser.add_argument(
        "--tokenizer",
        default="bytes",
        help="counts the tokens of sources that are not packed (default: bytes)",
    )
    output_options(parser, False, "the mixture's file, .json")
    json_option(parser)
    parser.set_defaults(run_step=run)


def run(arguments: argparse.Namespace) -> int:
    """Count, weigh, and write."""
    if not arguments.tokens >= 1:
        raise BadArgument(reason=f"--tokens {arguments.tokens:g}: use at least 1")
    if not arguments.parts and not arguments.preset:
        raise BadArgument(
            reason="no source was named: give NAME=SOURCE@WEIGHT, or --preset table3"
        )
    parts = [_part(text, arguments.preset) for text in arguments.parts]
    _check_names(parts)
    if parts:
        counts = [_tokens(part.source, arguments.tokenizer) for part in parts]
    else:
        parts = [Part(name, name, weight) for name, (_, weight) in TABLE_3.items()]
        counts = [tokens for tokens, _ in TABLE_3.values()]
    if arguments.out and arguments.parts:
        write_mixture(arguments.out, _beside(parts, arguments.out), arguments.overwrite)
    rows = list(_rows(parts, counts, arguments.tokens))
    if arguments.json:
        print_json({"budget": int(arguments.tokens), "sources": rows})
        return DONE
    print(_account(rows, arguments.tokens))
    if arguments.out and arguments.parts:
        log(f"wrote {arguments.out}")
    return DONE


def _part(text: str, preset: str | None) -> Part:
    name, named, rest = text.partition("=")
    source, at, weight = rest.rpartition("@")
    if preset and not at:
        source = rest
    if not named or not name or not source:
        raise BadArgument(reason=f"'{text}' is not of the form NAME=SOURCE@WEIGHT")
    if preset and not at:
        if name not in TABLE_3:
            raise BadArgument(
                reason=f"Table 3 has no source '{name}', only {', '.join(TABLE_3)}; "
                f"give it a weight: {name}={source}@WEIGHT"
            )
        return Part(name, source, TABLE_3[name][1])
    try:
        return Part(name, source, check_weight(name, float(weight)))
    except ValueError:
        raise BadArgument(
            reason=f"the weight '{weight}' of {name} is not a number"
        ) from None


def _check_names(parts: list[Part]) -> None:
    names = [part.name for part in parts]
    for name in names:
        if names.count(name) > 1:
            raise BadArgument(reason=f"two sources are named {name}: rename one")


def _tokens(source: str, tokenizer: str) -> int:
    """Tokens of a source, as its manifest says or by tokenizing it all."""
    if is_packed(Path(source)):
        return int(read_manifest(Path(source))["tokens"])
    coder = load_tokenizer(tokenizer)
    texts = watched(source, documents(source))
    return sum(len(document_ids(text, coder)) for text in texts if text.text)


def _beside(parts: list[Part], out: Path) -> list[Part]:
    """The parts with paths that count from the mixture's folder."""
    return [
        Part(p.name, os.path.relpath(p.source, out.parent), p.weight)
        if Path(p.source).exists()
        else p
        for p in parts
    ]


def _rows(
    parts: list[Part], counts: list[int], budget: float
) -> Iterator[dict[str, Any]]:
    weights = [part.weight for part in parts]
    read = epochs(weights, counts, budget)
    for part, tokens, often in zip(parts, counts, read, strict=True):
        yield {
            "name": part.name,
            "source": part.source,
            "weight": part.weight,
            "share": part.weight / sum(weights),
            "tokens": tokens,
            "epochs": often,
        }


def _account(rows: list[dict[str, Any]], budget: float) -> str:
    cells = [
        [
            row["name"],
            f"{row['tokens']:,}",
            f"{row['weight']:g}",
            f"{row['share']:.1%}",
            f"{row['epochs']:.3g}",
        ]
        for row in rows
    ]
    headers = ["source", "tokens", "weight", "share", "epochs"]
    return f"{table(cells, headers)}\n\nEpochs of a run of {budget:,.0f} tokens."
