"""A model by its folder: that of a training run, or a converted one."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from glam.data.tokenizer import Tokenizer, check_vocabulary, load_tokenizer
from glam.interchange import CONFIG, load, tokenizer_of
from glam.model import Config
from glam.train.folder import CHECKPOINTS
from glam.train.trained import load_trained
from ir.errors import BadArgument


@dataclass(frozen=True)
class Loaded:
    """A model with its tokenizer; `step` is None for a converted one."""

    config: Config
    params: Any
    tokenizer: Tokenizer
    step: int | None


def load_model(
    folder: Path,
    tell: Callable[[str], None],
    step: int | None = None,
    tokenizer: str | None = None,
) -> Loaded:
    """The model in a folder, its parameters on the default device.

    `step` is that of a run's checkpoint, the newest sound one by default; `tell` hears
    of damaged ones that are passed over. `tokenizer`, a name or a path, stands in for
    the model's own. Raises `BadArgument`.
    """
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise BadArgument(
            reason=f"{folder} {what}: name the folder of a run, or one that "
            "`glam convert` wrote"
        )
    if (folder / CONFIG).is_file():
        found = _converted(folder, step, tokenizer)
    elif (folder / CHECKPOINTS).is_dir():
        found = _trained(folder, tell, step, tokenizer)
    else:
        raise BadArgument(
            reason=f"{folder} holds no model: neither {CHECKPOINTS}/, as a run does, "
            f"nor {CONFIG}, as `glam convert` writes it"
        )
    check_vocabulary(found.tokenizer, found.config.vocabulary)
    return found


def _converted(folder: Path, step: int | None, tokenizer: str | None) -> Loaded:
    if step is not None:
        raise BadArgument(
            reason=f"{folder} is a converted model, which has one step: drop --step"
        )
    config, params = load(folder)
    return Loaded(config, jax.device_put(params), tokenizer_of(folder, tokenizer), None)


def _trained(
    folder: Path, tell: Callable[[str], None], step: int | None, tokenizer: str | None
) -> Loaded:
    found = load_trained(folder, tell, step)
    own = found.tokenizer if tokenizer is None else load_tokenizer(tokenizer)
    return Loaded(found.config, found.params, own, found.step)
