"""`moegen opt`: passes over printed IR."""

import argparse
from collections.abc import Iterator
from typing import Any

from ir.errors import BadArgument, UnreadableIR
from moegen.cli.files import read_ir
from moegen.cli.program import DONE, Subparsers, add_command

# Passes that need a whole layer, and not just any function.
_OF_LAYERS = frozenset({"derive-backward", "quantise", "fuse"})


def register(subparsers: Subparsers) -> None:
    """Add the command `opt`."""
    parser = add_command(
        subparsers,
        "opt",
        "run passes over printed IR",
        'moegen opt layer.mlir --passes "canonicalize,derive-backward{keep=true}"',
    )
    parser.add_argument(
        "file", metavar="FILE", nargs="?", help="printed IR; - for standard input"
    )
    parser.add_argument(
        "--passes", default="", help="passes with their options, in order"
    )
    parser.add_argument(
        "--no-locations", action="store_true", help="print without the user's lines"
    )
    parser.add_argument("--list", action="store_true", help="list the passes")


def run(arguments: argparse.Namespace) -> int:
    """Print the module after the last pass."""
    if arguments.list:
        print("\n".join(_listing()))
        return DONE
    if arguments.file is None:
        reason = "opt takes a FILE of printed IR, or - for standard input"
        raise BadArgument(reason=reason)
    from ir import mlir
    from ir.pipeline import parse_passes, run_passes
    from moegen.compiler import ALL_PASSES

    passes = parse_passes(arguments.passes, ALL_PASSES)
    text = read_ir(arguments.file)
    try:
        module = mlir.parse(text)
    except UnreadableIR as error:
        raise UnreadableIR(
            place=_place(arguments.file, error.facts["place"]),
            reason=error.facts["reason"],
        ) from None
    _refuse_foreign(arguments.file, module, {step.name for step in passes})
    module = run_passes(module, passes, lambda name, module: None)
    print(mlir.print_module(module, not arguments.no_locations), end="")
    return DONE


def _place(file: str, location: str) -> str:
    """MLIR calls all text "-": say the user's file instead."""
    inner = location.removeprefix("loc(").removesuffix(")")
    name = "standard input" if file == "-" else file
    return inner.replace('"-"', name) if '"-"' in inner else name


def _refuse_foreign(file: str, module: Any, names: set[str]) -> None:
    """Raise for IR that is sound, but no layer's: passes rely on what trace writes."""
    from ir import mlir

    functions = mlir.functions(module) if names else {}
    needs_layer = not names.isdisjoint(_OF_LAYERS)
    if needs_layer and "forward" not in functions:
        raise UnreadableIR(place=file, reason="it has no function 'forward'")
    for name, function in functions.items():
        if not list(function.operation.regions[0].blocks):
            reason = f"the function '{name}' has no body"
            raise UnreadableIR(place=file, reason=reason)
        facts = mlir.attributes(function)
        if needs_layer and not {"arg_attrs", "res_attrs"} <= facts.keys():
            reason = f"the function '{name}' does not say what its arguments are"
            raise UnreadableIR(place=file, reason=reason)


def _listing() -> Iterator[str]:
    from dataclasses import fields
    from importlib import import_module

    from moegen.compiler import ALL_PASSES

    for name, place in ALL_PASSES.items():
        module, _, class_name = place.partition(":")
        made: Any = getattr(import_module(module), class_name)
        first = (made.__doc__ or "").strip().split("\n")[0]
        yield f"{name}: {first}"
        for field in fields(made):
            kind = getattr(field.type, "__name__", field.type)
            default = str(field.default).lower() if kind == "bool" else field.default
            yield f"  {field.name}: {kind} = {default}"
