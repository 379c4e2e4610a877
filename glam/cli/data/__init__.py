"""`glam data`: from raw texts to packed tokens, one file a step."""

import argparse
import importlib

from moegen.cli.program import BAD_USE, Subparsers, add_command

STEPS = (
    "tokenizer",
    "classify",
    "filter",
    "dedup",
    "contamination",
    "mix",
    "pack",
    "inspect",
    "noise",
)


def register(subparsers: Subparsers) -> None:
    """Add the command `data` and its steps."""
    parser = add_command(
        subparsers,
        "data",
        "filter, clean, mix and pack texts for training",
        "glam data pack stdlib --tokenizer bytes --out packed",
    )
    steps = parser.add_subparsers(dest="step", metavar="STEP")
    for name in STEPS:
        importlib.import_module(f"{__name__}.{name}").register(steps)
    parser.set_defaults(run_step=None, help_of_data=parser.print_help)


def run(arguments: argparse.Namespace) -> int:
    """Run one step."""
    if arguments.run_step is None:
        arguments.help_of_data()
        return BAD_USE
    code: int = arguments.run_step(arguments)
    return code
