"""The command line `glam`: one file a command, what it needs imported when it runs."""

import importlib
import os
import sys
from argparse import Namespace
from types import ModuleType

import moegen
from ir.errors import BadArgument
from moegen.cli.program import BAD_USE, Parser, guarded

COMMANDS = (
    "models",
    "count",
    "variants",
    "cost",
    "data",
    "train",
    "report",
    "generate",
    "eval",
    "convert",
)
OWN = ("glam", "moegen", "backends", "ir", "examples")


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    # libtpu is installed for its compiler, and would complain that it found no TPU.
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    given = sys.argv[1:] if argv is None else argv
    return guarded("glam", lambda: _run(given))


def _run(argv: list[str]) -> int:
    # A command that is named does not wait for what the others import.
    named = tuple(name for name in argv[:1] if name in COMMANDS)
    parser, commands = _parser(named or COMMANDS)
    arguments, rest = parser.parse_known_args(argv)
    if rest:
        _take(parser, arguments, rest)
    if arguments.command is None:
        parser.print_help()
        return BAD_USE
    return _call(commands[arguments.command], arguments)


def _take(parser: Parser, arguments: Namespace, rest: list[str]) -> None:
    """Texts behind options, where the command takes texts; argparse would refuse them.

    Such a command names the argument that they belong to as its default `trailing`.
    """
    name = getattr(arguments, "trailing", None)
    if name is None or any(part.startswith("-") for part in rest):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    setattr(arguments, name, [*getattr(arguments, name), *rest])


def _call(command: ModuleType, arguments: Namespace) -> int:
    """Run a command; a package that is not installed becomes one sentence."""
    try:
        code: int = command.run(arguments)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in OWN:
            raise
        reason = (
            f"the command '{arguments.command}' needs the package '{package}', which "
            "is not installed: pip install 'moegen[glam]'"
        )
        raise BadArgument(reason=reason) from None
    return code


def _parser(names: tuple[str, ...]) -> tuple[Parser, dict[str, ModuleType]]:
    """The parser of these commands, and the module behind each."""
    parser = Parser(
        prog="glam",
        description="The GLaM models (Du et al. 2021), made of generated layers.",
        epilog="example: glam models",
    )
    parser.add_argument("--version", action="version", version=moegen.__version__)
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands: dict[str, ModuleType] = {}
    for name in names:
        commands[name] = importlib.import_module(f"{__name__}.{name}")
        commands[name].register(subparsers)
    return parser, commands


__all__ = ["main"]
