"""Outcomes on disk, by the content that they follow from.

One JSON file an outcome, named by the SHA-256 of all that was compiled and what with.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from backends.emitted import Emitted
from backends.tpu.compile.job import Job, Kind, Outcome
from ir.errors import UnwritableFolder

# Counted up when the classes, sentences or figures of outcomes change.
_FORMAT = 2
_FLAGS = ("LIBTPU_INIT_ARGS", "TPU_LIBRARY_PATH", "XLA_FLAGS")


def key_of(
    job: Job,
    source: Emitted,
    versions: Mapping[str, str],
    environment: Mapping[str, str],
) -> str:
    """The SHA-256 of all that an outcome depends on, in hexadecimal."""
    flags = {
        name: value
        for name, value in environment.items()
        if name in _FLAGS or name.startswith("JAX_")
    }
    content = {
        "format": _FORMAT,
        "source": asdict(source),
        "job": job.data(),
        "versions": dict(versions),
        "flags": flags,
    }
    return _digest(content)


def keeps(outcome: Outcome) -> bool:
    """Whether an outcome follows from content alone, and not from this machine.

    An import can fail for want of a package, a process for want of memory or time.
    """
    machine = outcome.kind in (Kind.CRASHED, Kind.TIMED_OUT)
    return not machine and outcome.stage != "import"


class Store:
    """A folder of outcomes; raises `UnwritableFolder` where it cannot be written."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unwritable(error) from None

    def get(self, key: str) -> Outcome | None:
        """The outcome of that key; `None` if there is none, or it is damaged."""
        try:
            held = json.loads(self._path(key).read_bytes())
            outcome = Outcome.of(held["outcome"])
            whole = (held["key"], held["digest"]) == (key, _digest(held["outcome"]))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        return outcome if whole else None

    def put(self, key: str, outcome: Outcome) -> None:
        """Write an outcome, whole or not at all."""
        data = outcome.data()
        held = {"key": key, "digest": _digest(data), "outcome": data}
        try:
            _write(self._path(key), json.dumps(held, indent=1).encode())
        except OSError as error:
            raise self._unwritable(error) from None

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.json"

    def _unwritable(self, error: OSError) -> UnwritableFolder:
        reason = error.strerror or str(error)
        return UnwritableFolder(path=self._folder, reason=reason, flag="cache=")


def _digest(data: Any) -> str:
    text = json.dumps(data, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _write(path: Path, data: bytes) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
