"""`moegen profile`: the time of any JAX function on a TPU, without one."""

import argparse
import ast
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from moegen.cli.layer_options import add_layer_options, compile_layer
from moegen.cli.program import DONE, Subparsers, add_command, print_json
from moegen.cli.simulation import (
    PASSES,
    add_simulation_options,
    profiled,
    profiled_layer,
    simulation,
)


def register(subparsers: Subparsers) -> None:
    """Add the command `profile`."""
    parser = add_command(
        subparsers,
        "profile",
        "estimate the time of a JAX function or a layer on a TPU, without one",
        "moegen profile kernels.py:attend --target tpu-v5e "
        "--args 'bf16[4096,2048] s32[8]'\n"
        "         moegen profile glam --target tpu-v4 --dtype bfloat16 --html a.html",
    )
    add_layer_options(parser)
    parser.add_argument(
        "--args",
        nargs="+",
        metavar="TYPE[SIZES]",
        help="arguments of a plain JAX function; without them it is a layer",
    )
    parser.add_argument(
        "--pass",
        dest="pass_",
        choices=PASSES,
        default="forward",
        help="of a layer (default: forward)",
    )
    add_simulation_options(parser)
    parser.add_argument(
        "--html", metavar="FILE", type=Path, help="write a page to look at, too"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def run(arguments: argparse.Namespace) -> int:
    """Print the time line's ops, and what each of them spends its time on."""
    if arguments.html:
        _check_place(arguments.html)
    report = _report(arguments)
    if arguments.html:
        from backends.tpu.profile.page import page

        _write(arguments.html, page(report))
    if arguments.json:
        print_json(report)
        return DONE
    from moegen.cli.profile_tables import summary

    print(summary(report))
    if arguments.html:
        print(f"page: {arguments.html}")
    return DONE


def _report(arguments: argparse.Namespace) -> dict[str, Any]:
    asked = simulation("profile", arguments)
    if arguments.args is None:
        return profiled_layer(compile_layer(arguments), arguments.pass_, asked)
    file, function = _function(arguments.layer)
    return profiled(file, function, _types(arguments.args), asked)


def _types(texts: Sequence[str]) -> tuple[str, ...]:
    from backends.tpu.profile.arguments import read_arguments

    return tuple(map(str, read_arguments(" ".join(texts))))


def _function(name: str) -> tuple[Path, str]:
    """FILE.py and FUNCTION, both of which exist."""
    from ir.errors import BadArgument, nearest

    path, colon, function = name.rpartition(":")
    if not colon or not path.endswith(".py"):
        reason = f"with --args the function is FILE.py:FUNCTION, and got '{name}'"
        raise BadArgument(reason=reason)
    try:
        tree = ast.parse(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        reason = f"{path} cannot be read: {error.strerror or error}"
        raise BadArgument(reason=reason) from None
    except (SyntaxError, ValueError) as error:
        raise BadArgument(reason=f"{path} is not Python: {error}") from None
    names = list(_names(tree))
    if function not in names:
        have = f"it has {', '.join(names)}" if names else "it has none"
        close = nearest(function, names)
        reason = f"there is no function '{function}' in {path}; {have}{close}"
        raise BadArgument(reason=reason)
    return Path(path), function


def _names(tree: ast.Module) -> Sequence[str]:
    """What a module defines that may be a function."""
    found: list[str] = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            found.append(node.name)
        elif isinstance(node, ast.Assign):
            found += [t.id for t in node.targets if isinstance(t, ast.Name)]
        elif isinstance(node, ast.ImportFrom):
            found += [alias.asname or alias.name for alias in node.names]
    return found


def _check_place(path: Path) -> None:
    """Refuse a page that cannot be written before the minutes that a compile takes."""
    there = path.exists()
    _write(path, "", "a")
    if not there:
        path.unlink()


def _write(path: Path, text: str, mode: str = "w") -> None:
    from ir.errors import BadArgument

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open(mode, encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        reason = f"--html {path} cannot be written: {error.strerror or error}"
        raise BadArgument(reason=reason) from None
