"""`glam data tokenizer`: train a SentencePiece model."""

import argparse
import contextlib
import signal
import threading
from collections.abc import Iterator

from glam.cli.data.options import (
    chained,
    json_option,
    opened,
    output_options,
    sources_argument,
)
from glam.data.subwords import KINDS, train_tokenizer
from glam.data.writing import atomic_file, check_free
from moegen.cli.program import DONE, Subparsers, add_command, log, print_json


def register(subparsers: Subparsers) -> None:
    """Add the step `tokenizer`."""
    parser = add_command(
        subparsers,
        "tokenizer",
        "train a SentencePiece model with GLaM's special ids",
        "glam data tokenizer stdlib --vocabulary 4000 --out tokens.model",
    )
    sources_argument(parser)
    parser.add_argument(
        "--vocabulary", type=int, default=32_000, help="pieces (default: 32000)"
    )
    parser.add_argument(
        "--kind", choices=KINDS, default=KINDS[0], help="(default: unigram)"
    )
    parser.add_argument(
        "--characters",
        type=int,
        default=10_000_000,
        help="how many characters of the sources to train on (default: 10000000)",
    )
    output_options(parser, True, "the model's file, .model")
    json_option(parser)
    parser.set_defaults(run_step=run)


def run(arguments: argparse.Namespace) -> int:
    """Train, write and report."""
    check_free(arguments.out, arguments.overwrite)
    found = opened(arguments.sources, arguments, arguments.out)
    with _interruptible():
        tokenizer = train_tokenizer(
            chained(found),
            arguments.vocabulary,
            kind=arguments.kind,
            characters=arguments.characters,
        )
    with atomic_file(arguments.out, arguments.overwrite) as file:
        file.write(tokenizer.model)
    facts = {
        "model": str(arguments.out),
        "vocabulary": tokenizer.vocabulary,
        "kind": arguments.kind,
        "fingerprint": tokenizer.fingerprint,
    }
    if arguments.json:
        print_json(facts)
        return DONE
    log(f"wrote {arguments.out}: {tokenizer.vocabulary:,} pieces, {arguments.kind}")
    return DONE


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Let an interrupt end the process at once: SentencePiece's C++ would not notice.

    Nothing is written yet, so nothing is left behind.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
