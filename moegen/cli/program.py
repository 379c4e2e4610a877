"""What the project's command lines share: parsing, errors and exit codes.

Exit 0: done; 1: the answer is no; 2: bad use or bad input; 130: interrupted.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn, TypeAlias

from ir.errors import MoegenError

DONE, NO, BAD_USE, INTERRUPTED, PIPE_CLOSED = 0, 1, 2, 130, 141


class Parser(argparse.ArgumentParser):
    """A parser that answers bad use with one sentence."""

    def error(self, message: str) -> NoReturn:
        program = self.prog.split()[0]
        self.exit(BAD_USE, f"{program}: {message}; see '{self.prog} --help'\n")


Subparsers: TypeAlias = "argparse._SubParsersAction[Parser]"


def add_command(
    subparsers: Subparsers, name: str, summary: str, example: str
) -> Parser:
    """A command's parser, with a sentence of help and an example."""
    return subparsers.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=f"example: {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def guarded(program: str, work: Callable[[], int]) -> int:
    """Run `work`; what goes wrong becomes one sentence and an exit code."""
    try:
        code = _exit_code(work)
        sys.stdout.flush()
        return code
    except MoegenError as error:
        return _say(program, str(error), BAD_USE)
    except KeyboardInterrupt:
        return _say(program, "interrupted", INTERRUPTED)
    except BrokenPipeError:
        _give_up_output()
        return PIPE_CLOSED
    except OSError as error:
        _give_up_output()
        where = f"{error.filename}: " if error.filename else ""
        return _say(program, f"{where}{error.strerror or error}", BAD_USE)


def _exit_code(work: Callable[[], int]) -> int:
    """The code of `work`, also where argparse leaves by `SystemExit`."""
    try:
        return work()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else DONE


def _give_up_output() -> None:
    """If standard output is broken, keep Python from failing on it again at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_json(document: Any) -> None:
    """Print the one JSON document of a command."""
    print(json.dumps(document, indent=2))


def log(text: str) -> None:
    """Tell the user something that is not the command's output."""
    print(text, file=sys.stderr)


def _say(program: str, sentence: str, code: int) -> int:
    log(f"{program}: {' '.join(sentence.split())}")
    return code
