"""`glam models`: the family, computed parameters beside those the paper prints."""

import argparse

from glam.cli.document import document
from glam.family import MODELS, Model, count, forward_flops, weight_bytes
from moegen.cli.program import DONE, Subparsers, add_command, print_json

_HEADERS = (
    "name",
    "kind",
    "total",
    "printed",
    "activated",
    "printed",
    "GFLOP/token",
    "GB",
    "L",
    "M",
    "H",
    "heads",
    "d_head",
    "E",
)
_ALIGN = ("left", "left", *["right"] * 12)


def register(subparsers: Subparsers) -> None:
    """Add the command `models`."""
    parser = add_command(
        subparsers,
        "models",
        "list the family, computed parameters beside those the paper prints",
        "glam models --json",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def run(arguments: argparse.Namespace) -> int:
    """Print the family."""
    if arguments.json:
        print_json({"models": [document(model) for model in MODELS.values()]})
        return DONE
    from tabulate import tabulate

    rows = [_row(model) for model in MODELS.values()]
    print(tabulate(rows, _HEADERS, disable_numparse=True, colalign=_ALIGN))
    print(
        "\nPrinted: Table 4 of the paper. Computed with a vocabulary of 32,000, and of "
        "256,000\nfor 64B/64E; no single convention reproduces every printed number.\n"
        "GFLOP: of the forward pass, 2 for each weight that is multiplied, and those\n"
        "of attention in 1,024 tokens (the paper prints 180 for its largest). GB: 1e9\n"
        "bytes of float32 weights. All computed from the sizes; nothing was measured."
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
        f"{forward_flops(model) / 1e9:,.2f}",
        f"{weight_bytes(model) / 1e9:,.1f}",
        *map(str, sizes),
        "-" if model.experts is None else str(model.experts),
    ]
