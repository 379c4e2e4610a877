"""`glam count`: a model's parameters by part."""

import argparse

from glam.cli.document import document
from glam.family import count, find_model
from moegen.cli.program import DONE, Subparsers, add_command, print_json

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


def register(subparsers: Subparsers) -> None:
    """Add the command `count`."""
    parser = add_command(
        subparsers,
        "count",
        "count a model's parameters by part",
        "glam count 8B/64E",
    )
    parser.add_argument("name", metavar="NAME", help="a model of `glam models`")
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def run(arguments: argparse.Namespace) -> int:
    """Print the counts."""
    model = find_model(arguments.name)
    if arguments.json:
        print_json(document(model))
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
