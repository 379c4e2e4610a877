"""The model of a run, as generation and evaluation take it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np
from jax.sharding import Mesh

from glam.data.tokenizer import Tokenizer, load_tokenizer
from glam.model import Config, init
from glam.train.checkpoint import (
    newest_sound,
    path_of,
    read_checkpoint,
    restore,
    steps_in,
)
from glam.train.checksums import Damaged, verify
from glam.train.folder import CHECKPOINTS, TOKENIZER
from glam.train.state import abstract, flat, unflat
from glam.train.step import AXIS
from ir.errors import BadArgument


@dataclass(frozen=True)
class Trained:
    """Parameters after `step` steps, and what they are parameters of."""

    config: Config
    params: Any
    tokenizer: Tokenizer
    step: int


def load_trained(
    run: Path, tell: Callable[[str], None], step: int | None = None
) -> Trained:
    """The model in the folder of a run: of its newest sound checkpoint, or of `step`.

    The optimizer is not read, and nothing in the folder is changed. `tell` hears of
    newer checkpoints that are damaged. Raises `BadArgument` where there is no
    checkpoint, or the one asked for is damaged.
    """
    folder = (run / CHECKPOINTS).resolve()
    found = read_checkpoint(folder, _chosen(run, folder, step, tell))
    settings = found.record["settings"]
    config = Config.from_json(settings["model"])
    device = Mesh(np.array(jax.devices()[:1]), (AXIS,))
    like = abstract(jax.eval_shape(partial(init, config), jax.random.key(0)), device)
    names = flat({"params": like})
    params = unflat(restore(found, names, part=True), {"params": like})["params"]
    copied = run / TOKENIZER
    tokenizer = load_tokenizer(
        copied if copied.is_file() else settings["data"]["tokenizer"]
    )
    return Trained(config, params, tokenizer, found.step)


def _chosen(
    run: Path, folder: Path, step: int | None, tell: Callable[[str], None]
) -> int:
    """The step to read."""
    known = steps_in(folder)
    if not known:
        _refuse(f"there is no checkpoint in {run}: name the folder of a run")
    if step is not None:
        if step not in known:
            listed = ", ".join(map(str, known))
            _refuse(f"{run} has no checkpoint of step {step}; it has those of {listed}")
        try:
            verify(path_of(folder, step))
        except Damaged as damage:
            _refuse(f"the checkpoint {path_of(folder, step)} is refused: {damage}")
        return step

    def pass_over(path: Path, damage: Damaged) -> None:
        tell(f"the checkpoint {path} is refused: {damage}; the one before it is used")

    newest = newest_sound(folder, None, pass_over)
    if newest is None:
        _refuse(f"every checkpoint in {run} is damaged")
    return newest


def _refuse(reason: str) -> NoReturn:
    raise BadArgument(reason=reason)
