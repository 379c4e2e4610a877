"""The command line `glam`: the model family and its parameters."""

import argparse
import sys
from dataclasses import asdict
from typing import Any

import moegen
from glam.family import MODELS, Model, count, find_model
from moegen.cli.program import (
    BAD_USE,
    DONE,
    Parser,
    add_command,
    guarded,
    print_json,
)

_HEADERS = (
    "name",
    "kind",
    "total",
    "printed",
    "activated",
    "printed",
    "L",
    "M",
    "H",
    "heads",
    "d_head",
    "E",
)
_ALIGN = ("left", "left", *["right"] * 10)
_PARTS = {
    "attention": "attention",
    "dense": "dense feed-forward",
    "experts": "experts, all",
    "active_experts": "experts, a token's two",
    "router": "routers",
    "embedding": "embedding, tied",
    "norms": "norm scales",
    "relative_bias": "relative biases",
}


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    given = sys.argv[1:] if argv is None else argv
    return guarded("glam", lambda: _run(given))


def _run(argv: list[str]) -> int:
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.command is None:
        parser.print_help()
        return BAD_USE
    if arguments.command == "models":
        return _models(arguments.json)
    return _count(find_model(arguments.name), arguments.json)


def _parser() -> Parser:
    parser = Parser(
        prog="glam",
        description="The GLaM models (Du et al. 2021), made of generated layers.",
        epilog="example: glam models",
    )
    parser.add_argument("--version", action="version", version=moegen.__version__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    models = add_command(
        commands,
        "models",
        "list the family, computed parameters beside those the paper prints",
        "glam models --json",
    )
    one = add_command(
        commands,
        "count",
        "count a model's parameters by part",
        "glam count 8B/64E",
    )
    one.add_argument("name", metavar="NAME", help="a model of `glam models`")
    for command in (models, one):
        _json_option(command)
    return parser


def _json_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def _models(as_json: bool) -> int:
    if as_json:
        print_json({"models": [_document(model) for model in MODELS.values()]})
        return DONE
    from tabulate import tabulate

    rows = [_row(model) for model in MODELS.values()]
    print(tabulate(rows, _HEADERS, disable_numparse=True, colalign=_ALIGN))
    print(
        "\nPrinted: Table 4 of the paper. Computed with a vocabulary of 32,000, and of "
        "256,000\nfor 64B/64E; no single convention reproduces every printed number."
    )
    return DONE


def _row(model: Model) -> list[str]:
    made = count(model)
    sizes = (model.layers, model.model, model.hidden, model.heads, model.head)
    return [
        model.name,
        model.kind,
        f"{made.total:,}",
        model.printed_total,
        f"{made.activated:,}",
        model.printed_activated,
        *map(str, sizes),
        "-" if model.experts is None else str(model.experts),
    ]


def _count(model: Model, as_json: bool) -> int:
    if as_json:
        print_json(_document(model))
        return DONE
    from tabulate import tabulate

    made = count(model)
    parts = [[title, f"{getattr(made, part):,}", ""] for part, title in _PARTS.items()]
    parts.append(["total", f"{made.total:,}", model.printed_total])
    parts.append(["activated", f"{made.activated:,}", model.printed_activated])
    headers = (model.name, "computed", "printed")
    align = ("left", "right", "right")
    print(tabulate(parts, headers, disable_numparse=True, colalign=align))
    return DONE


def _document(model: Model) -> dict[str, Any]:
    made = count(model)
    computed = {"total": made.total, "activated": made.activated}
    return {**asdict(model), "kind": model.kind, "parts": asdict(made), **computed}
