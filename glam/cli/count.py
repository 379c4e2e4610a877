"""`glam count`: parameters by formula, and by the model's own parameter tree.

Exit 1: they differ.
"""

import argparse

from glam.cli.document import document
from glam.family import MODELS, Model, count, find_model
from moegen.cli.program import DONE, NO, Subparsers, add_command, print_json

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
        "count a model's parameters, by formula and by its parameter tree",
        "glam count 8B/64E",
    )
    parser.add_argument(
        "name",
        metavar="NAME",
        nargs="?",
        help="a model of `glam models` (default: all of them)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def run(arguments: argparse.Namespace) -> int:
    """Print the counts."""
    one = None if arguments.name is None else find_model(arguments.name)
    models = list(MODELS.values()) if one is None else [one]
    trees = {model.name: _tree(model) for model in models}
    agree = all(trees[model.name] == _formula(model) for model in models)
    if arguments.json:
        documents = [_document(model, trees[model.name]) for model in models]
        print_json({"models": documents} if one is None else documents[0])
    elif one is None:
        _print_all(trees)
    else:
        _print_parts(one, trees[one.name])
    return DONE if agree else NO


def _tree(model: Model) -> tuple[int, int]:
    """Parameters in all, and those of a token, of the tree that training makes.

    Its arrays are abstract: they have shapes, and take no memory.
    """
    from glam.model import Config
    from glam.train.language_model import parameters

    total, activated = parameters(Config.of(model.name))
    return total, round(activated)


def _formula(model: Model) -> tuple[int, int]:
    made = count(model)
    return made.total, made.activated


def _document(model: Model, tree: tuple[int, int]) -> dict[str, object]:
    counted = {"total": tree[0], "activated": tree[1]}
    return document(model) | {"tree": counted, "agrees": tree == _formula(model)}


def _print_all(trees: dict[str, tuple[int, int]]) -> None:
    from tabulate import tabulate

    rows = []
    for name, tree in trees.items():
        model = MODELS[name]
        rows.append(
            [
                name,
                f"{count(model).total:,}",
                model.printed_total,
                f"{count(model).activated:,}",
                model.printed_activated,
                "equal" if tree == _formula(model) else f"{tree[0]:,} / {tree[1]:,}",
            ]
        )
    headers = ("name", "total", "printed", "activated", "printed", "parameter tree")
    align = ("left", *["right"] * 5)
    print(tabulate(rows, headers, disable_numparse=True, colalign=align))


def _print_parts(model: Model, tree: tuple[int, int]) -> None:
    from tabulate import tabulate

    made = count(model)
    parts = [
        [title, f"{getattr(made, part):,}", "", ""] for part, title in _PARTS.items()
    ]
    parts.append(["total", f"{made.total:,}", f"{tree[0]:,}", model.printed_total])
    activated = f"{made.activated:,}", f"{tree[1]:,}", model.printed_activated
    parts.append(["activated", *activated])
    headers = (model.name, "computed", "parameter tree", "printed")
    align = ("left", "right", "right", "right")
    print(tabulate(parts, headers, disable_numparse=True, colalign=align))
