"""Dumps kept in a folder, so that a kernel is compiled once for each compiler."""

import gzip
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from backends.tpu.profile.dump import Dump, KernelText, dump


@dataclass(frozen=True)
class Source:
    """A function of a file, and all that its compiled form depends on; see `dump`."""

    file: Path
    function: str
    args: tuple[str, ...]
    chip: str
    megacore: bool = False
    static: Mapping[str, Any] | None = None
    paths: tuple[Path, ...] = ()

    def key(self, python: str) -> str:
        """A digest of everything that decides the dump."""
        parts = (
            self.file.read_text(),
            self.function,
            self.args,
            self.chip,
            self.megacore,
            dict(self.static or {}),
            [path.name for path in self.paths],
            python,
        )
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]


def kept_dump(
    source: Source, cache: Path | None, python: str, seconds: float = 600.0
) -> Dump:
    """The dump from the folder `cache`, else made and, if there is a folder, kept."""
    path = cache and cache / f"{source.function}-{source.key(python)}.json.gz"
    if path and path.exists():
        held = json.loads(gzip.decompress(path.read_bytes()))
        kernels = tuple(KernelText(**kernel) for kernel in held.pop("kernels"))
        return Dump(**held, kernels=kernels)
    made = dump(
        source.file,
        source.function,
        source.args,
        source.chip,
        python=python,
        megacore=source.megacore,
        seconds=seconds,
        static=source.static,
        paths=source.paths,
    )
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(json.dumps(asdict(made)).encode(), mtime=0))
    return made
