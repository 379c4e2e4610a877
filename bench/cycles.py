"""Whole layers in simulated time: ours beside the usual pipeline, for every TPU.

Both are compiled by the same libtpu and timed by the same simulator under the same
routing; no device is needed and nothing is measured. What was compiled is kept, so a
run that was stopped goes on where it was. Run as `python -m bench.cycles`.
"""

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tabulate import tabulate

from backends.tpu.profile.module import ModuleProfile, profile_module
from backends.tpu.profile.routing import read_routing
from bench.ahead import CHIPS, Shape, shapes
from bench.rivals import Program, Setting, ours, usual
from ir.errors import MoegenError
from moegen.cli.program import guarded, log

PASSES = ("forward", "training")
_CACHE = Path.home() / ".cache" / "moegen" / "cycles"
_PROFILE = Path(__file__).parent.parent / "backends" / "tpu" / "profile"
_BARS = {
    "GLaM 64B/64E, 1 expert": 1.04,
    "GLaM 64B/64E, 4 experts": 1.04,
    "GLaM 8B/64E, 8 experts": 1.10,
    "Mixtral 8x7B": 1.10,
    "Qwen3-30B": 1.5,
    "DeepSeek-V3": 1.5,
}
_BAR_V5P = 1.8
_FIGURES = ("ms", "mxu", "kernel mxu", "kernel ms", "gb")
_NOTHING: dict[str, Any] = dict.fromkeys(_FIGURES) | {"class": ""}
_LONGEST_FAILURE = 200
# Chips that published times confirm come first; so do the shapes that say most.
_ORDER = ("Qwen3", "Mixtral", "GLaM 8B", "DeepSeek", "GLaM 64B", "GLaM 0.1B")


def main(arguments: list[str]) -> int:
    """Print a table, or JSON; 1 if a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.cycles", description=__doc__)
    chips = [chip for chip in CHIPS if chip != "tpu7x"]
    parser.add_argument("--chip", action="append", choices=CHIPS, help="only this one")
    parser.add_argument("--only", default="", help="shapes whose name contains this")
    parser.add_argument("--pass", dest="passes", action="append", choices=PASSES)
    parser.add_argument("--routing", default="uniform")
    parser.add_argument("--cache", type=Path, default=_CACHE)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    with TemporaryDirectory() as folder:
        setting = Setting(given.cache, Path(folder), read_routing(given.routing))
        wanted = given.passes or list(PASSES)
        found = list(_rows(given.chip or chips, wanted, given.only, setting))
    missed = [row for row in found if not reached(row)]
    if given.json:
        print(
            json.dumps(
                {"rows": found, "obtained": "estimated", "routing": given.routing}
            )
        )
    else:
        print(tabulate(found, headers="keys", floatfmt=".3f"))
        print(f"\n{len(missed)} of {len(found)} below their bar or failed; {_ABOUT}")
    return 1 if missed else 0


_ABOUT = "estimated from the schedules that libtpu compiled, nothing was measured"


def _rows(
    chips: list[str], passes: list[str], only: str, setting: Setting
) -> Iterator[dict[str, Any]]:
    every = [s for s in shapes() if not s.name.startswith("small")]
    every = [s for s in every if ", T" not in s.name and only in s.name]
    every.sort(key=lambda s: next(i for i, n in enumerate(_ORDER) if n in s.name))
    for name in passes:
        for chip in chips:
            for shape in every:
                began = time.monotonic()
                row = row_of(shape, chip, name, setting)
                told = row["failure"] or f"{row['ours ms']:.3f} ms, {row['ratio']:.3f}x"
                took = time.monotonic() - began
                log(f"{shape.name}, {chip}, {name}: {told}, after {took:.0f} s")
                yield row


def reached(row: dict[str, Any]) -> bool:
    """Whether a row is as fast as it has to be."""
    return row["ratio"] is not None and row["ratio"] >= row["bar"]


def row_of(shape: Shape, chip: str, name: str, setting: Setting) -> dict[str, Any]:
    """A row of the table; one that fails says why, and the others go on."""
    own = peer = _NOTHING
    failure = ""
    try:
        own = figures(ours(shape, chip, setting), name, chip, setting)
        pipeline = usual(shape, chip, setting, training=name == "training")
        peer = figures(pipeline, name, chip, setting)
    except MoegenError as error:
        failure = " ".join(str(error).split())[:_LONGEST_FAILURE]
    bar = _BAR_V5P if chip == "tpu-v5p" else _BARS.get(shape.name, 1.0)
    return {
        "shape": shape.name,
        "chip": chip,
        "pass": name,
        "ours ms": own["ms"],
        "pipeline ms": peer["ms"],
        "ratio": None if failure else peer["ms"] / own["ms"],
        "bar": bar,
        "MXU, ours": own["mxu"],
        "MXU, pipeline": peer["mxu"],
        "in kernels, ours": own["kernel mxu"],
        "in kernels, pipeline": peer["kernel mxu"],
        "GB, ours": own["gb"],
        "GB, pipeline": peer["gb"],
        "class": max(own["class"], peer["class"]),
        "failure": failure,
    }


def figures(program: Program, name: str, chip: str, setting: Setting) -> dict[str, Any]:
    """A program's simulated figures, kept by its dump and the simulator's text."""
    dump, key = setting.dump(program, f"whole_{name}", chip)
    path = setting.cache / f"{key}-{simulator_digest()}.row.json"
    if path.exists():
        held: dict[str, Any] = json.loads(path.read_text())
        return held
    made = _figures(profile_module(dump))
    path.write_text(json.dumps(made))
    return made


def _figures(profile: ModuleProfile) -> dict[str, Any]:
    kernels = list(profile.kernels())
    cycles = sum(k.cycles for k in kernels)
    fed = sum(k.profile.mxu_busy * k.cycles for k in kernels if k.profile)
    classes = [op.confidence for op in profile.ops if op.cycles > profile.cycles / 50]
    return {
        "ms": profile.seconds * 1e3,
        "mxu": profile.mxu_busy,
        "kernel mxu": fed / max(1, cycles),
        "kernel ms": cycles / profile.clock_hz * 1e3,
        "gb": profile.hbm_bytes / 1e9,
        "class": max(classes, default="A"),
    }


def simulator_digest() -> str:
    """Changes with anything that a simulated figure follows from."""
    digest = hashlib.sha256()
    for path in sorted([*_PROFILE.glob("*.py"), _PROFILE / "units.json"]):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


if __name__ == "__main__":
    sys.exit(guarded("bench.cycles", lambda: main(sys.argv[1:])))
