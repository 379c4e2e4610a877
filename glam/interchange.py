"""Parameters as safetensors beside a configuration, for others to read.

A folder with `config.json`, `model.safetensors` and, where the tokenizer is a file,
`tokenizer.model`. A tensor's name is its path in the parameter tree,
`blocks.moe.feed_forward.wi`; arrays under `blocks` have all blocks. The metadata of the
safetensors file names the tokenizer by its fingerprint.
"""

import json
import os
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
    from safetensors.numpy import save as encode

    arrays = {name: np.asarray(array) for name, array in named(params).items()}
    _check(config, arrays, "the parameters")
    text = json.dumps(config.to_json(), indent=2) + "\n"
    told = {"format": "glam"}
    folder.mkdir(parents=True, exist_ok=True)
    if tokenizer is not None:
        check_vocabulary(tokenizer, config.vocabulary)
        told[_NAMED] = tokenizer.fingerprint
    if isinstance(tokenizer, SentencePieceTokenizer):
        _write(folder / TOKENIZER, tokenizer.model)
    _write(folder / TENSORS, encode(arrays, told))
    _write(folder / CONFIG, text.encode())


def load(folder: Path) -> tuple[Config, Any]:
    """The configuration and the parameters of a folder.

    Raises `BadArgument` for a file that is missing or damaged, and if any tensor of the
    file would not be read, or any parameter not be written.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load as decode

    try:
        document = json.loads((folder / CONFIG).read_bytes())
        if not isinstance(document, dict):
            _refuse(f"{folder / CONFIG} holds no object: it must be that of a model")
        config = Config.from_json(document)
        arrays = decode((folder / TENSORS).read_bytes())
    except FileNotFoundError as error:
        _refuse(f"{error.filename} is missing: a model is {CONFIG} and {TENSORS}")
    except (ValueError, TypeError, AttributeError, SafetensorError) as error:
        _refuse(f"the model in {folder} cannot be read: {error}")
    _check(config, arrays, str(folder / TENSORS))
    tree = jax.tree.structure(abstract(config))
    order = named(abstract(config))
    return config, jax.tree.unflatten(tree, [arrays[name] for name in order])


def tokenizer_of(folder: Path, given: str | None = None) -> Tokenizer:
    """The tokenizer of a folder: its own, or the one `given` by name or path.

    Raises `BadArgument` where there is none, and where it is not the one that the
    folder was saved with.
    """
    from safetensors import safe_open

    with safe_open(folder / TENSORS, "numpy") as file:
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
    unread = sorted(arrays.keys() - wanted.keys())
    if unread:
        _refuse(f"{where}: the model has no parameter for the tensor {unread[0]}")
    for name, kind in wanted.items():
        if name not in arrays:
            _refuse(f"{where}: the model's parameter {name} is missing")
        shape, dtype = arrays[name].shape, str(arrays[name].dtype)
        if (shape, dtype) != (kind.shape, str(kind.dtype)):
            _refuse(
                f"{where}: the tensor {name} is {dtype}{list(shape)}, and the model's "
                f"parameter is {kind.dtype}{list(kind.shape)}"
            )


def _write(path: Path, data: bytes) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(data)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _refuse(reason: str) -> NoReturn:
    raise BadArgument(reason=reason)
