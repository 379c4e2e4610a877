"""The command line `moegen`: one file a command, imported when it is run."""

import importlib
import importlib.util
import os
import sys
from types import ModuleType

import moegen
from moegen.cli.program import BAD_USE, Parser, guarded

# `bench` stands above moegen and is never imported by name from here.
COMMANDS = (
    "moegen.cli.demo",
    "moegen.cli.compile",
    "moegen.cli.inspect",
    "moegen.cli.profile",
    "moegen.cli.check",
    "moegen.cli.opt",
    "moegen.cli.targets",
    "bench.cli",
)


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    # Nothing here needs an accelerator, and libtpu would complain that it found none.
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    given = sys.argv[1:] if argv is None else argv
    return guarded("moegen", lambda: _run(given))


def _run(argv: list[str]) -> int:
    parser, commands = _parser()
    arguments = parser.parse_args(argv)
    if arguments.command is None:
        parser.print_help()
        return BAD_USE
    code: int = commands[arguments.command].run(arguments)
    return code


def _parser() -> tuple[Parser, dict[str, ModuleType]]:
    """The parser, and the module behind each command."""
    parser = Parser(
        prog="moegen",
        description="Compiles mixture-of-experts layers to readable kernels.",
        epilog="example: moegen compile glam --set tokens=64 --out generated",
    )
    parser.add_argument("--version", action="version", version=moegen.__version__)
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands: dict[str, ModuleType] = {}
    for name in COMMANDS:
        if importlib.util.find_spec(name) is None:
            continue
        module = importlib.import_module(name)
        module.register(subparsers)
        commands |= {n: module for n in subparsers.choices if n not in commands}
    return parser, commands


__all__ = ["main"]
