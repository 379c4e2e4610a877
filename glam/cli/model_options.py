"""What commands that take a model share: its folder, its loading, its provenance."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moegen.cli.program import Parser, log

if TYPE_CHECKING:
    from glam.loading import Loaded


def model_options(parser: Parser) -> None:
    """The model's folder, and which of its checkpoints and tokenizers."""
    parser.add_argument(
        "model",
        type=Path,
        metavar="MODEL",
        help="the folder of a run, or one that `glam convert` wrote",
    )
    parser.add_argument(
        "--step", type=int, help="of the run's checkpoints (default: the newest sound)"
    )
    parser.add_argument(
        "--tokenizer", metavar="NAME", help="in place of the model's own"
    )


def loaded(arguments: argparse.Namespace) -> "Loaded":
    """The model that the options name; raises `BadArgument`."""
    quiet_orbax()
    from glam.loading import load_model

    return load_model(arguments.model, log, arguments.step, arguments.tokenizer)


def quiet_orbax() -> None:
    """Orbax logs what it raises, and that becomes our one sentence."""
    import logging

    logging.getLogger("absl").setLevel(logging.CRITICAL)


def provenance(folder: Path, model: "Loaded") -> dict[str, Any]:
    """Which model it is, and what computed with it."""
    import jax

    return {
        "folder": str(folder),
        "step": model.step,
        "tokenizer": model.tokenizer.fingerprint,
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
    }
