"""Dumps kept on disk by what was compiled, so that nothing is compiled twice."""

import gzip
import hashlib
import json
import os
import sys
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from backends.tpu.profile.calls import KernelCall
from backends.tpu.profile.dump import Dump, KernelText, dump
from backends.tpu.profile.routing import Routing


def kept_dump(
    folder: Path,
    file: Path,
    function: str,
    args: tuple[str, ...],
    chip: str,
    routing: Routing,
    *,
    megacore: bool = False,
    seconds: float = 600.0,
    context: str = "",
) -> tuple[Dump, str]:
    """The dump of `file:function`, and its key; compiled where it is not kept yet.

    `file` must not import what may change: `context` stands for what it imports.
    """
    told = [file.read_text(), function, *args, chip, str(megacore), context]
    told += [json.dumps(asdict(routing)), version("jax"), version("libtpu")]
    key = hashlib.sha256("\0".join(told).encode()).hexdigest()[:32]
    path = folder / f"{key}.json.gz"
    if path.exists():
        return read_dump(path), key
    made = dump(
        file,
        function,
        args,
        chip,
        python=sys.executable,
        megacore=megacore,
        seconds=seconds,
        routing=routing,
    )
    write_dump(path, made)
    return made, key


def write_dump(path: Path, made: Dump) -> None:
    """Keep a dump; a reader finds all of it or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    part.write_bytes(gzip.compress(json.dumps(asdict(made)).encode(), 6, mtime=0))
    os.replace(part, path)


def read_dump(path: Path) -> Dump:
    """A dump as it was kept."""
    held: dict[str, Any] = json.loads(gzip.decompress(path.read_bytes()))
    kernels = tuple(KernelText(**kernel) for kernel in held.pop("kernels"))
    calls = tuple(
        KernelCall(
            name=call["name"],
            types=tuple(call["types"]),
            values={int(number): words for number, words in call["values"].items()},
        )
        for call in held.pop("calls")
    )
    return Dump(**held, kernels=kernels, calls=calls)
