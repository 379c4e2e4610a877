"""The options of every command that takes a layer, and what they mean."""

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backends.schedule_choices import Choices, read_choice
from ir.errors import BadArgument
from ir.narrow import STORED
from moegen.keywords import TAKEN

if TYPE_CHECKING:
    from moegen.operator import Op

DTYPES = ("float32", "bfloat16")


def add_layer_options(parser: argparse.ArgumentParser) -> None:
    """Add LAYER, --target, --dtype, --weights, --set and --cache."""
    parser.add_argument(
        "layer", metavar="LAYER", help="a layer that ships (glam), or FILE.py:FUNCTION"
    )
    parser.add_argument(
        "--target", default="host", help="what to compile for (default: this machine)"
    )
    parser.add_argument(
        "--dtype",
        choices=DTYPES,
        default="float32",
        help="of activations and of parameters that name none (default: float32)",
    )
    parser.add_argument(
        "--weights",
        choices=tuple(STORED),
        help="store matrices in one byte an element, for inference: no gradients",
    )
    parser.add_argument(
        "--set",
        dest="sizes",
        metavar="SIZE=VALUE",
        nargs="+",
        action="extend",
        default=[],
        help="sizes and options of the layer, such as tokens=64; may be repeated",
    )
    parser.add_argument(
        "--schedule",
        metavar="FIELD=VALUE",
        nargs="+",
        action="extend",
        default=[],
        help="fields of kernels' schedules, such as grouped_rows.tile_rows=256 "
        "(default: from the target's model)",
    )
    parser.add_argument(
        "--cache",
        metavar="DIR",
        type=Path,
        help="where emitted modules are kept (default: ~/.cache/moegen)",
    )


def read_sizes(pairs: Sequence[str]) -> dict[str, Any]:
    """`["tokens=64", "norm=false"]` as `{"tokens": 64, "norm": False}`."""
    sizes = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        if not name or not value:
            reason = f"--set takes SIZE=VALUE, such as tokens=64, and got '{pair}'"
            raise BadArgument(reason=reason)
        if name in TAKEN:
            reason = f"--set {pair}: no size of a layer can be called '{name}'"
            raise BadArgument(reason=reason)
        sizes[name] = _value(value)
    return sizes


def read_schedule(items: Sequence[str]) -> Choices:
    """`["grouped_rows.tile_rows=256"]` as `{"grouped_rows.tile_rows": 256}`."""
    return dict(map(read_choice, items))


def compile_layer(
    arguments: argparse.Namespace, on_stage: Callable[[str, Any], None] | None = None
) -> "Op":
    """Compile the layer that the options name; raises a `MoegenError`.

    What the layer's own code prints goes to standard error: standard output is ours.
    """
    sizes = read_sizes(arguments.sizes)
    from moegen.compiler import compile
    from moegen.layers import find_layer

    with redirect_stdout(sys.stderr):
        return compile(
            find_layer(arguments.layer),
            arguments.target,
            arguments.dtype,
            arguments.cache,
            on_stage,
            schedule=read_schedule(arguments.schedule),
            weights=arguments.weights,
            **sizes,
        )


def _value(text: str) -> int | float | bool | str:
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
