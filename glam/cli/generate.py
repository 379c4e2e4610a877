"""`glam generate`: continue prompts with a trained model."""

import argparse
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from glam.cli.model_options import loaded, model_options, provenance
from ir.errors import BadArgument
from moegen.cli.program import DONE, Subparsers, add_command, print_json

if TYPE_CHECKING:
    from glam.generate import Completion, Search, Settings
    from glam.loading import Loaded

BEAMS = 4  # the paper's


def register(subparsers: Subparsers) -> None:
    """Add the command `generate`."""
    parser = add_command(
        subparsers,
        "generate",
        "continue prompts: greedily, by sampling, or by beam search",
        "glam generate runs/tiny 'def main(' --tokens 200 --top-p 0.9",
    )
    add = parser.add_argument
    model_options(parser)
    add(
        "prompts",
        metavar="PROMPT",
        nargs="*",
        help="a text to continue; right behind MODEL",
    )
    add(
        "--file",
        metavar="FILE",
        help="more prompts: a text file, one a line, or JSONL or Parquet, one a row",
    )
    add("--field", default="prompt", help="of such rows (default: prompt)")
    add("--encoding", default="utf-8", help="of the file (default: utf-8)")
    add("--tokens", type=int, default=128, metavar="N", help="at most (default: 128)")
    add(
        "--temperature",
        type=float,
        metavar="T",
        help="draw tokens (default: 0, greedy, and 1 with --top-k or --top-p)",
    )
    add("--top-k", type=int, metavar="K", help="draw from the best K alone")
    add("--top-p", type=float, metavar="P", help="draw from the best that sum to P")
    add("--seed", type=int, default=0, help="of what is drawn (default: 0)")
    add(
        "--beams",
        type=int,
        nargs="?",
        const=BEAMS,
        metavar="N",
        help=f"search with N beams ({BEAMS} if N is not said)",
    )
    add(
        "--length-penalty",
        type=float,
        metavar="A",
        help="scores are divided by ((5 + length) / 6)^A (default: 0.6)",
    )
    add("--batch", type=int, default=16, metavar="N", help="prompts at once (16)")
    add("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(trailing="prompts")


def run(arguments: argparse.Namespace) -> int:
    """Generate."""
    how = _how(arguments)
    texts = _texts(arguments)
    from glam.generate import Settings
    from glam.generate.text import visible

    model = loaded(arguments)
    if isinstance(how, Settings) and len(texts) == 1 and not arguments.json:
        made = _streamed(model, texts[0], how)
    else:
        made = _batches(model, texts, how, arguments)
    if arguments.json:
        told = {"model": provenance(arguments.model, model), "how": _document(how)}
        _print_json(told, made)
        return DONE
    # A model may write bytes that the terminal's encoding does not have.
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
    shown = visible if sys.stdout.isatty() else str
    for _, text in made:
        print(shown(text), end="", flush=True)
    return DONE


def _print_json(
    told: dict[str, Any], made: Iterator[tuple[dict[str, Any], str]]
) -> None:
    """One document, also of what is finished where the rest fails or is interrupted."""
    completions, complete = list[dict[str, Any]](), False
    try:
        for document, _ in made:
            completions.append(document)
        complete = True
    finally:
        if completions:
            print_json(told | {"complete": complete, "completions": completions})


def _how(arguments: argparse.Namespace) -> "Settings | Search":
    """Sampling or search as asked; raises `BadArgument` for halves of both."""
    from glam.generate import Search, Settings

    drawing = {
        f"--{name.replace('_', '-')}": getattr(arguments, name)
        for name in ("temperature", "top_k", "top_p")
    }
    asked = [name for name, value in drawing.items() if value is not None]
    if arguments.batch < 1:
        _refuse(f"--batch {arguments.batch}: at least 1")
    if arguments.beams is not None:
        if asked:
            _refuse(f"beams draw nothing: take --beams or {asked[0]}, not both")
        penalty = arguments.length_penalty
        chosen = {} if penalty is None else {"penalty": penalty}
        return Search(arguments.tokens, arguments.beams, **chosen)
    if arguments.length_penalty is not None:
        _refuse("--length-penalty ranks beams: add --beams, or drop it")
    if arguments.temperature == 0 and len(asked) > 1:
        _refuse(f"--temperature 0 draws nothing: drop it, or drop {asked[1]}")
    temperature = arguments.temperature
    if temperature is None:
        temperature = 1.0 if asked else 0.0
    return Settings(
        arguments.tokens,
        temperature,
        arguments.top_k,
        arguments.top_p,
        arguments.seed,
    )


def _texts(arguments: argparse.Namespace) -> list[str]:
    """All prompts: those of the command line, then those of the file."""
    from glam.data.readers import Reading
    from glam.data.sources import documents

    texts: list[str] = list(arguments.prompts)
    for number, text in enumerate(texts, 1):
        try:
            text.encode()
        except UnicodeEncodeError:
            _refuse(f"prompt {number} is not UTF-8: write it to a file, use --encoding")
    if arguments.file is not None:
        if not Path(arguments.file).is_file():
            _refuse(f"there is no file {arguments.file} with prompts")
        reading = Reading(arguments.field, "line", arguments.encoding)
        found = documents(arguments.file, reading)
        texts += [document.text.rstrip("\r\n") for document in found]
    if not texts:
        _refuse("there is no prompt: name one behind the model, or a --file of them")
    return texts


def _streamed(
    model: "Loaded", text: str, how: "Settings"
) -> Iterator[tuple[dict[str, Any], str]]:
    """The prompt, then what continues it, as it comes."""
    from glam.generate import stream
    from glam.generate.text import Continuation, prompt_of

    prompt = prompt_of(model.tokenizer, text)
    steps = stream(model.config, model.params, [prompt], how)
    yield {}, text
    told = Continuation(model.tokenizer, prompt)
    for (token,) in steps:
        if token is not None:
            yield {}, told.add(token)
    yield {}, told.close() + "\n"


def _batches(
    model: "Loaded",
    texts: list[str],
    how: "Settings | Search",
    arguments: argparse.Namespace,
) -> Iterator[tuple[dict[str, Any], str]]:
    """Each completion as a document and as text, a batch at a time."""
    from glam.generate.text import prompt_of, text_of

    rows = iter([(text, prompt_of(model.tokenizer, text)) for text in texts])
    number = 0
    while batch := list(islice(rows, arguments.batch)):
        made = _completions(model, [ids for _, ids in batch], how, number)
        for (text, ids), completion in zip(batch, made, strict=True):
            number += 1
            new = text_of(model.tokenizer, ids, completion.tokens)
            heading = f"--- prompt {number}\n" if len(texts) > 1 else ""
            document = {
                "prompt": text,
                "text": new,
                "tokens": len(completion.tokens),
                "log_probability": completion.log_probability,
                "ended": completion.ended,
            }
            yield document, f"{heading}{text}{new}\n"


def _completions(
    model: "Loaded", prompts: list[list[int]], how: "Settings | Search", first: int
) -> "list[Completion]":
    from glam.generate import Search, beam, generate

    if isinstance(how, Search):
        return beam(model.config, model.params, prompts, how)
    return generate(model.config, model.params, prompts, how, first)


def _document(how: "Settings | Search") -> dict[str, Any]:
    from dataclasses import asdict

    return {"method": type(how).__name__.lower(), **asdict(how)}


def _refuse(reason: str) -> NoReturn:
    raise BadArgument(reason=reason)
