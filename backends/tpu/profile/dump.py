"""The compiler's own schedule: libtpu's dump texts, made without a TPU.

libtpu is loaded in a child process with a time limit, since it may abort or hang.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from backends.tpu.profile.calls import KernelCall
from backends.tpu.profile.routing import Routing
from ir.errors import DumpFailed, UnknownChip

_ROOT = Path(__file__).resolve().parents[3]

TOPOLOGIES: dict[str, dict[str, Any]] = {
    "v4": {"topology_name": "v4:2x2x1"},
    "v5e": {"topology_name": "v5e:2x2"},
    "v5p": {"topology_name": "v5p:2x2x1"},
    "v6e": {"topology_name": "v6e:2x2"},
    "tpu7x": {"topology_name": "tpu7x:2x2x1"},
}

# Passes are numbered differently from version to version: only the suffix is stable.
_BUNDLES = re.compile(r"\d+-(?P<name>.+)-\d+-final_bundles\.txt")
_CRITICAL = re.compile(r"\d+-(?P<name>.+)-\d+-critical-path\.txt")
_SHELL = re.compile(r"TLP|<.*>")
_LONGEST_REASON = 600


@dataclass(frozen=True)
class KernelText:
    """The dump of one kernel or fusion, as text."""

    name: str
    bundles: str
    critical_path: str = ""


@dataclass(frozen=True)
class Dump:
    """What one compilation for `chip` left behind; `compiled` is XLA's module.

    `calls` are the kernels that were traced, and what a routing tells them.
    """

    chip: str
    kernels: tuple[KernelText, ...]
    compiled: str = ""
    libtpu: str = ""
    jax: str = ""
    calls: tuple[KernelCall, ...] = ()

    def kernel(self, name: str | None = None) -> KernelText:
        """The kernel of that name; without one, the longest."""
        if name is None:
            return max(self.kernels, key=lambda kernel: len(kernel.bundles))
        held = {kernel.name: kernel for kernel in self.kernels}
        if name not in held:
            reason = f"there is no kernel '{name}', there are {', '.join(held)}"
            raise DumpFailed(what=self.chip, reason=reason)
        return held[name]


def dump(
    file: str | Path,
    function: str,
    args: tuple[str, ...],
    chip: str,
    *,
    python: str = sys.executable,
    megacore: bool = False,
    seconds: float = 120.0,
    routing: Routing | None = None,
    static: Mapping[str, Any] | None = None,
    paths: tuple[Path, ...] = (),
) -> Dump:
    """Compile `file:function` for `chip` with arguments like `bf16[4096,2048]`.

    `python` is an interpreter with jax and libtpu; `seconds` the child's time limit.
    With a `routing` the kernels' integer operands are computed from it. `static` holds
    keyword arguments of the function that JSON can carry; `paths` go in front of the
    child's import path.
    """
    if chip not in TOPOLOGIES:
        raise UnknownChip(chip=chip, chips=", ".join(TOPOLOGIES))
    topology = dict(TOPOLOGIES[chip])
    if megacore:
        topology["chip_config_name"] = "megacore"
    with tempfile.TemporaryDirectory(prefix="moegen-dump-") as folder:
        request = {
            "file": str(Path(file).resolve()),
            "function": function,
            "args": list(args),
            "static": dict(static or {}),
            "paths": [str(Path(each).resolve()) for each in paths],
            "topology": topology,
            "routing": asdict(routing) if routing else None,
            "out": folder,
        }
        path = Path(folder) / "request.json"
        path.write_text(json.dumps(request))
        _run(python, path, f"{Path(file).name}:{function} for {chip}", seconds)
        return read_folder(Path(folder), chip)


def _run(python: str, request: Path, what: str, seconds: float) -> None:
    command = [python, "-m", "backends.tpu.profile.ahead", str(request)]
    try:
        done = subprocess.run(
            command,
            env=_environment(request.parent),
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        reason = f"it took longer than {seconds:g} s; give it more time or shrink tiles"
        raise DumpFailed(what=what, reason=reason) from None
    failure = request.parent / "failure.txt"
    if failure.exists():
        raise DumpFailed(what=what, reason=failure.read_text()[:_LONGEST_REASON])
    if done.returncode:
        reason = f"the compiler ended with {done.returncode}: {_last(done.stderr)}"
        raise DumpFailed(what=what, reason=reason)


def _environment(folder: Path) -> dict[str, str]:
    paths = [str(_ROOT), os.environ.get("PYTHONPATH", "")]
    options = (
        f"--xla_jf_dump_to={folder} --xla_jf_dump_llo_text=true "
        "--xla_jf_dump_llo_pass_label_regex=final_bundles|critical-path"
    )
    return os.environ | {
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
        "JAX_PLATFORMS": "cpu",
        "LIBTPU_INIT_ARGS": options,
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "TPU_SKIP_MDS_QUERY": "1",
    }


def _last(text: str) -> str:
    """The line of a child's output that says most: the last error, else the last."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if re.search(r"Error\b|Exit\b", line)]
    return (errors or lines or ["without a word"])[-1][:400]


def read_folder(folder: Path, chip: str) -> Dump:
    """Read what `--xla_jf_dump_to=FOLDER` wrote; the program's shell is left out."""
    critical = _texts(folder, _CRITICAL)
    kernels = tuple(
        KernelText(name, text, critical.get(name, ""))
        for name, text in _texts(folder, _BUNDLES).items()
        if not _SHELL.fullmatch(name)
    )
    compiled = folder / "compiled.txt"
    if not kernels and not compiled.exists():
        reason = f"{folder} holds no *-final_bundles.txt"
        raise DumpFailed(what=chip, reason=reason)
    versions = folder / "versions.json"
    held = json.loads(versions.read_text()) if versions.exists() else {}
    text = compiled.read_text() if compiled.exists() else ""
    libtpu, jax = held.get("libtpu", ""), held.get("jax", "")
    return Dump(chip, kernels, text, libtpu, jax, _calls(folder / "calls.json"))


def _calls(path: Path) -> tuple[KernelCall, ...]:
    held = json.loads(path.read_text()) if path.exists() else []
    return tuple(
        KernelCall(
            name=each["name"],
            types=tuple(each["types"]),
            values={int(number): words for number, words in each["values"].items()},
        )
        for each in held
    )


def _texts(folder: Path, pattern: re.Pattern[str]) -> dict[str, str]:
    found = {}
    for path in sorted(folder.iterdir()):
        match = pattern.fullmatch(path.name)
        name = match["name"] if match else ""
        if match and not name.endswith("-schedule-analysis"):
            found[name] = path.read_text(errors="replace")
    return found
