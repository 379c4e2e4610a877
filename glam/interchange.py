"""Parameters as safetensors beside a configuration, for others to read.

A folder with `config.json`, `model.safetensors` and, where the tokenizer is a file,
`tokenizer.model`. A tensor's name is its path in the parameter tree,
`blocks.moe.feed_forward.wi`; arrays under `blocks` have all blocks. The metadata of the
safetensors file names the tokenizer by its fingerprint.
"""

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np

from glam.data.tokenizer import (
    ByteTokenizer,
    SentencePieceTokenizer,
    Tokenizer,
    check_vocabulary,
    load_tokenizer,
)
from glam.model import Config, abstract
from ir.errors import BadArgument

CONFIG, TENSORS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.model"
_NAMED = "tokenizer"  # the key of the metadata


def save(
    config: Config, params: Any, folder: Path, tokenizer: Tokenizer | None = None
) -> None:
    """Write the files; each is whole or not there.

    Raises `BadArgument` if the parameters are not those of the configuration, naming
    the first tensor that is missing, that is too much, or that has another type.
    """
    from safetensors.numpy import save_file

    arrays = {name: np.asarray(array) for name, array in named(params).items()}
    _check(config, arrays, "the parameters")
    text = json.dumps(config.to_json(), indent=2) + "\n"
    # One key alone: safetensors writes several in no fixed order.
    told: dict[str, str] = {}
    if tokenizer is not None:
        check_vocabulary(tokenizer, config.vocabulary)
        told[_NAMED] = tokenizer.fingerprint
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(tokenizer, SentencePieceTokenizer):
        model = tokenizer.model
        _write(folder / TOKENIZER, lambda part: part.write_bytes(model))
    _write(folder / TENSORS, lambda part: save_file(arrays, part, told or None))
    _write(folder / CONFIG, lambda part: part.write_text(text, encoding="utf-8"))


def load(folder: Path) -> tuple[Config, Any]:
    """The configuration and the parameters of a folder.

    Raises `BadArgument` for a file that is missing or damaged, and if any tensor of the
    file would not be read, or any parameter not be written.
    """
    for name in (CONFIG, TENSORS):
        if not (folder / name).is_file():
            _refuse(f"{folder / name} is missing: a model is {CONFIG} and {TENSORS}")
    config = _read_config(folder / CONFIG)
    with _opened(folder / TENSORS) as file:
        wanted = named(abstract(config))
        _check_names(wanted.keys(), file.keys(), str(folder / TENSORS))
        # One array at a time, in the order of the tree.
        arrays = {name: file.get_tensor(name) for name in wanted}
    _check(config, arrays, str(folder / TENSORS))
    tree = jax.tree.structure(abstract(config))
    return config, jax.tree.unflatten(tree, list(arrays.values()))


def _read_config(path: Path) -> Config:
    try:
        document = json.loads(path.read_bytes())
    except ValueError as error:
        _refuse(f"{path} is not JSON: {error}")
    if not isinstance(document, dict):
        _refuse(f"{path} holds no object: it must be that of a model")
    try:
        return Config.from_json(document)
    except BadArgument as error:
        _refuse(f"{path}: {error}")


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """An open safetensors file; what is wrong with its bytes becomes one sentence."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            yield file
    except SafetensorError as error:
        _refuse(f"{path} cannot be read: {error}; it is cut off or altered")


def tokenizer_of(folder: Path, given: str | None = None) -> Tokenizer:
    """The tokenizer of a folder: its own, or the one `given` by name or path.

    Raises `BadArgument` where there is none, and where it is not the one that the
    folder was saved with.
    """
    with _opened(folder / TENSORS) as file:
        saved = (file.metadata() or {}).get(_NAMED)
    own = folder / TOKENIZER
    if given is not None:
        found = load_tokenizer(given)
    elif own.is_file():
        found = load_tokenizer(own)
    elif saved == ByteTokenizer.fingerprint:
        found = ByteTokenizer()
    else:
        _refuse(f"{folder} has no {TOKENIZER}: name the model's with --tokenizer")
    if saved not in (None, found.fingerprint):
        _refuse(
            f"the model in {folder} was saved with the tokenizer {saved}, and this one "
            f"is {found.fingerprint}: use the tokenizer that it was trained with"
        )
    return found


def named(tree: Any) -> dict[str, Any]:
    """The leaves of a parameter tree by their dotted paths, in the tree's order."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {".".join(str(key.key) for key in path): leaf for path, leaf in leaves}


def _check(config: Config, arrays: dict[str, np.ndarray], where: str) -> None:
    """Every tensor read, every parameter written, each of its shape and dtype."""
    wanted = named(abstract(config))
    _check_names(wanted.keys(), arrays.keys(), where)
    for name, kind in wanted.items():
        shape, dtype = arrays[name].shape, str(arrays[name].dtype)
        if (shape, dtype) != (kind.shape, str(kind.dtype)):
            _refuse(
                f"{where}: the tensor {name} is {dtype}{list(shape)}, and the model's "
                f"parameter is {kind.dtype}{list(kind.shape)}"
            )


def _check_names(wanted: Iterable[str], held: Iterable[str], where: str) -> None:
    unread = sorted(set(held) - set(wanted))
    if unread:
        _refuse(f"{where}: the model has no parameter for the tensor {unread[0]}")
    unwritten = sorted(set(wanted) - set(held))
    if unwritten:
        _refuse(f"{where}: the model's parameter {unwritten[0]} is missing")


def _write(path: Path, write: Callable[[Path], Any]) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        # safetensors would keep the file from all but its owner.
        part.touch()
        mode = part.stat().st_mode
        _written(write, part)
        part.chmod(mode)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _written(write: Callable[[Path], Any], part: Path) -> None:
    """Write; an error of the system that safetensors tells as text is one again."""
    from safetensors import SafetensorError

    try:
        write(part)
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        code = int(number[1])
        raise OSError(code, os.strerror(code), str(part)) from None


def _refuse(reason: str) -> NoReturn:
    raise BadArgument(reason=reason)
