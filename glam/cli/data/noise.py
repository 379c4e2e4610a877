"""`glam data noise`: raw data of which a known share is worthless."""

import argparse
import json
from typing import Any

from glam.cli.data.options import (
    chained,
    json_option,
    opened,
    output_options,
    sources_argument,
    table,
)
from glam.data.noise import is_noise, noisy_corpus
from glam.data.records import RecordWriter
from glam.data.writing import atomic_folder, check_free
from moegen.cli.program import DONE, Subparsers, add_command, log, print_json

_FACTS = "corpus.json"
_PARTS = ("raw", "positives", "negatives", "validation")


def register(subparsers: Subparsers) -> None:
    """Add the step `noise`."""
    parser = add_command(
        subparsers,
        "noise",
        "make raw data with a known share of noise, to try filters on",
        "glam data noise stdlib --fraction 0.5 --out corpus",
    )
    sources_argument(parser)
    parser.add_argument(
        "--fraction",
        type=float,
        default=0.5,
        help="of the raw characters that are noise (default: 0.5)",
    )
    parser.add_argument("--seed", type=int, default=0, help="(default: 0)")
    output_options(
        parser, True, f"a folder with {', '.join(f'{part}.jsonl' for part in _PARTS)}"
    )
    json_option(parser)
    parser.set_defaults(run_step=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the four parts and their sizes."""
    check_free(arguments.out, arguments.overwrite)
    found = opened(arguments.sources, arguments)
    corpus = noisy_corpus(
        chained(found), fraction=arguments.fraction, seed=arguments.seed
    )
    facts: dict[str, Any] = {"fraction": arguments.fraction, "seed": arguments.seed}
    with atomic_folder(arguments.out, _FACTS, arguments.overwrite) as folder:
        for part in _PARTS:
            texts = getattr(corpus, part)
            with (folder / f"{part}.jsonl").open("wb") as file:
                for text in texts:
                    RecordWriter(file).write(text)
            noise = sum(len(text.text) for text in texts if is_noise(text))
            characters = sum(len(text.text) for text in texts)
            facts[part] = {"documents": len(texts), "characters": characters}
            facts[part]["noise_characters"] = noise
        (folder / _FACTS).write_text(json.dumps(facts, indent=2) + "\n")
    if arguments.json:
        print_json(facts)
        return DONE
    rows = [[part, *(f"{n:,}" for n in facts[part].values())] for part in _PARTS]
    print(table(rows, ["part", "documents", "characters", "noise characters"]))
    log(f"wrote {arguments.out}")
    return DONE
