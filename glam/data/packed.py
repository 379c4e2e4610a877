"""A packed store on disk: `tokens.npy`, mapped when it is read, and `manifest.json`.

The array is written as it grows, so packing needs memory for one document only.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from glam.data.document import Document
from glam.data.store import TokenStore, document_ids, id_type
from glam.data.tokenizer import Tokenizer
from glam.data.writing import atomic_folder
from ir.errors import BadArgument

MANIFEST = "manifest.json"
_TOKENS = "tokens.npy"
_FORMAT, _VERSION = "glam packed tokens", 1
_FACTS: dict[str, type] = {
    "documents": int,
    "tokens": int,
    "vocabulary": int,
    "dtype": str,
    "tokenizer": str,
    "sha256": str,
    "part": str,
}


def write_packed(
    path: Path,
    documents: Iterable[Document],
    tokenizer: Tokenizer,
    *,
    part: str = "all",
    about: dict[str, Any] | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Pack documents into the folder `path`; returns its manifest.

    `part` says which side of a split the documents are from, and `about` whatever else
    is to stand in the manifest. Raises BadArgument where no document
    has text, or the folder cannot be written; then nothing is left of it.
    """
    with atomic_folder(path, MANIFEST, overwrite) as folder:
        with (folder / _TOKENS).open("w+b") as file:
            facts = _write_tokens(file, documents, tokenizer)
        if not facts["documents"]:
            raise BadArgument(reason=f"nothing to pack into {path}: no text was given")
        manifest = {"format": _FORMAT, "version": _VERSION, **facts}
        manifest |= {"part": part, "about": about or {}}
        text = json.dumps(manifest, indent=2) + "\n"
        (folder / MANIFEST).write_text(text, encoding="utf-8")
    return manifest


def _write_tokens(
    file: BinaryIO, documents: Iterable[Document], tokenizer: Tokenizer
) -> dict[str, Any]:
    dtype = np.dtype(id_type(tokenizer)).newbyteorder("<")
    _write_header(file, dtype, 0)
    count, tokens, characters, digest = 0, 0, 0, hashlib.sha256()
    for document in documents:
        ids = document_ids(document, tokenizer).astype(dtype)
        if len(ids) == 1:
            continue
        data = ids.tobytes()
        file.write(data)
        digest.update(data)
        count, tokens = count + 1, tokens + len(ids)
        characters += len(document.text)
    _write_header(file, dtype, tokens)
    return {
        "documents": count,
        "tokens": tokens,
        "characters": characters,
        "vocabulary": tokenizer.vocabulary,
        "dtype": dtype.name,
        "tokenizer": tokenizer.fingerprint,
        "sha256": digest.hexdigest(),
    }


def _write_header(file: BinaryIO, dtype: np.dtype[Any], tokens: int) -> None:
    """NumPy leaves room in a header, so that it can be written again for more rows."""
    file.seek(0)
    facts = {"descr": dtype.str, "fortran_order": False, "shape": (tokens,)}
    np.lib.format.write_array_header_1_0(file, facts)


def is_packed(path: Path) -> bool:
    """Whether a folder was made by `write_packed`."""
    return (path / MANIFEST).is_file()


def open_packed(path: Path, *, verify: bool = False) -> TokenStore:
    """A store mapped from its folder; `verify` reads it all to check its hash.

    Raises BadArgument where a file is missing, was cut short or was altered.
    """
    manifest = read_manifest(path)
    try:
        ids = np.load(path / _TOKENS, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise _broken(path, f"{_TOKENS} cannot be mapped ({error})") from None
    if ids.shape != (manifest["tokens"],) or ids.dtype.name != manifest["dtype"]:
        raise _broken(
            path,
            f"{_TOKENS} holds {ids.dtype.name}{list(ids.shape)}, and {MANIFEST} says "
            f"{manifest['dtype']}[{manifest['tokens']}]",
        )
    if verify and hashlib.sha256(ids).hexdigest() != manifest["sha256"]:
        raise _broken(path, f"{_TOKENS} was altered: its SHA-256 is another")
    return TokenStore(
        str(path),
        ids,
        manifest["documents"],
        manifest["vocabulary"],
        manifest["tokenizer"],
        manifest["sha256"],
        manifest["part"],
    )


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a packed store, checked for what reading it needs."""
    if not is_packed(path):
        raise BadArgument(
            reason=f"{path} is not a packed store: it has no {MANIFEST}; make one with "
            "`glam data pack`"
        )
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _broken(path, f"{MANIFEST} cannot be read ({error})") from None
    if not isinstance(manifest, dict) or manifest.get("format") != _FORMAT:
        raise _broken(path, f"{MANIFEST} is not one of `glam data pack`")
    if manifest.get("version") != _VERSION:
        raise _broken(path, f"it has version {manifest.get('version')}, not {_VERSION}")
    for name, kind in _FACTS.items():
        if not isinstance(manifest.get(name), kind):
            raise _broken(path, f"{MANIFEST} has no {name}")
    return manifest


def _broken(path: Path, why: str) -> BadArgument:
    return BadArgument(
        reason=f"the packed store {path} cannot be used: {why}; pack it again with "
        "`glam data pack`"
    )
