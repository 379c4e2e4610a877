"""`glam variants`: models with other numbers of experts, at equal cost.

Exit 1: none of the numbers is possible.
"""

import argparse
from dataclasses import asdict

from glam.cli.document import document
from glam.cli.numbers import whole_numbers
from glam.family import count, find_model, forward_flops, weight_bytes
from glam.variants import MATCHES, MULTIPLES, Rule, Variant, variant
from ir.errors import BadArgument
from moegen.cli.program import DONE, NO, Subparsers, add_command, print_json

_HEADERS = (
    "name",
    "difference",
    "L",
    "M",
    "H",
    "E",
    "total",
    "activated",
    "GFLOP/token",
    "GB",
)


def register(subparsers: Subparsers) -> None:
    """Add the command `variants`."""
    parser = add_command(
        subparsers,
        "variants",
        "list models with other numbers of experts that cost the same",
        "glam variants 8B/64E --experts 8,16,32 --match activated-flops",
    )
    add = parser.add_argument
    add("name", metavar="NAME", help="a model of `glam models`")
    add("--experts", required=True, metavar="E,E,...", help="numbers of experts")
    add(
        "--match",
        choices=list(MATCHES),
        default="activated-flops",
        help="what is to be equal (default: activated-flops)",
    )
    add(
        "--tolerance",
        type=float,
        default=0.01,
        metavar="T",
        help="largest difference, as a fraction (default: 0.01)",
    )
    add(
        "--vary",
        choices=list(MULTIPLES),
        default="hidden",
        help="what gives way (default: hidden)",
    )
    add(
        "--multiple",
        type=int,
        metavar="N",
        help="of which it is a multiple (default: 128 for hidden, 2 for layers)",
    )
    add("--json", action="store_true", help="print one JSON document")


def run(arguments: argparse.Namespace) -> int:
    """Print what is possible, and why the rest is not."""
    base = find_model(arguments.name)
    numbers = whole_numbers("--experts", arguments.experts, 1, "8,16,32")
    if arguments.multiple is not None and arguments.multiple < 1:
        raise BadArgument(reason=f"--multiple {arguments.multiple}: at least 1")
    rule = Rule(
        arguments.match, arguments.tolerance, arguments.vary, arguments.multiple or 0
    )
    found = [variant(base, experts, rule) for experts in numbers]
    possible = [one for one in found if one.model is not None]
    if arguments.json:
        told = {"base": document(base), "rule": asdict(rule), "target": rule.cost(base)}
        print_json(told | {"variants": [_document(one) for one in found]})
        return DONE if possible else NO
    if possible:
        from tabulate import tabulate

        align = ("left", *["right"] * (len(_HEADERS) - 1))
        rows = [_row(one) for one in possible]
        print(tabulate(rows, _HEADERS, disable_numparse=True, colalign=align))
    print(
        f"\n{rule.match} of {base.name}: {rule.cost(base):.6g}; within "
        f"{rule.tolerance:.2%}, {rule.vary} in multiples of {rule.multiple}; computed"
    )
    for one in found:
        if one.model is None:
            print(f"impossible with experts={one.experts}: {one.reason}")
    return DONE if possible else NO


def _row(one: Variant) -> list[str]:
    model = one.model
    if model is None:
        return []
    made = count(model)
    return [
        model.name,
        f"{one.difference:+.3%}",
        *map(str, (model.layers, model.model, model.hidden, model.experts)),
        f"{made.total:,}",
        f"{made.activated:,}",
        f"{forward_flops(model) / 1e9:,.2f}",
        f"{weight_bytes(model) / 1e9:,.1f}",
    ]


def _document(one: Variant) -> dict[str, object]:
    own = {"experts": one.experts, "difference": one.difference}
    if one.model is None:
        return own | {"possible": False, "reason": one.reason}
    return own | {"possible": True, "model": document(one.model)}
