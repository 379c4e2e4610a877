"""Training that is killed, damaged and starved, and what it loses: nothing.

`glam train` is killed with SIGKILL at random moments and started again, and its final
weights and optimizer are compared bit for bit with those of a run that nobody
disturbed. Then its newest checkpoint is cut short, and altered. Compiled programs are
kept between the starts, in JAX's persistent cache.
Run as `python -m bench.resilience`; exit 1 if anything was lost.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tabulate import tabulate

_PROGRAM = "import sys; from glam.cli import main; sys.exit(main())"
CONFIG = """
[model]
layers = 2
model = 16
hidden = 32
heads = 2
head = 8
experts = 4
vocabulary = 259
sequence = 32
activation_dtype = "float32"
[data]
source = "stdlib"
[train]
steps = {steps}
batch = 4
[optimizer]
plateau = 100
[checkpoint]
every = 5
[metrics]
peak = false
"""
LIMIT = 900.0  # seconds for one start of the program


@dataclass(frozen=True)
class Trial:
    """A folder to work in, and the run that is disturbed there."""

    folder: Path
    steps: int

    @property
    def config(self) -> Path:
        return self.folder / "resilience.toml"

    def start(self, name: str) -> subprocess.Popen[str]:
        """`glam train` into the run `name`; compiled programs are kept for the next."""
        command = ["train", "--config", str(self.config), "--json"]
        command += ["--out", str(self.folder / name)]
        cached = {
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": str(self.folder / "compiled"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        return subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **cached},
        )

    def finish(self, name: str) -> str:
        """Train to the end; what was said on the way."""
        child = self.start(name)
        _, said = child.communicate(timeout=LIMIT)
        if child.returncode:
            raise RuntimeError(f"glam train ended with {child.returncode}: {said}")
        return said

    def checkpoints(self, name: str) -> list[Path]:
        """The folders of the checkpoints, the newest last."""
        found = (self.folder / name / "checkpoints").glob("[0-9]*")
        return sorted(path for path in found if path.name.isdecimal())

    def arrays(self, name: str) -> dict[str, tuple[str, bytes]]:
        """Each array of the newest checkpoint: its dtype and its bytes."""
        import jax
        import numpy as np

        from glam.train.checkpoint import read_checkpoint, restore

        path = self.checkpoints(name)[-1]
        found = read_checkpoint(path.parent, int(path.name))
        sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        like = {
            array: jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)
            for array, (shape, dtype) in found.record["arrays"].items()
        }
        held = restore(found, like)
        return {n: (str(a.dtype), np.asarray(a).tobytes()) for n, a in held.items()}


def lines(run: Path) -> int:
    """How many steps the record of a run tells."""
    record = run / "metrics.jsonl"
    return record.read_bytes().count(b'"loss"') if record.exists() else 0


def killed(trial: Trial, kills: int, seed: int) -> list[dict[str, Any]]:
    """Kill the run `kills` times: three in four at a random step of the next share of
    the run, every fourth at a random moment of its start.
    """
    moments, rows = random.Random(seed), list[dict[str, Any]]()
    share = trial.steps / (kills + 1)
    start = 0.0  # seconds that the longest start took
    for number in range(1, kills + 1):
        child, begun = trial.start("killed"), time.monotonic()
        if number % 4 == 0:
            moment = "at its start"
            _wait(child, begun + moments.uniform(0, start))
        else:
            moment = "in training"
            step = int(share * (number - moments.random())) + 1
            start = max(start, _steps_told(trial, child, step))
            _wait(child, time.monotonic() + moments.uniform(0, 0.05))
        child.kill()
        child.communicate()
        kept = trial.checkpoints("killed")
        rows.append(
            {
                "kill": number,
                "when": moment,
                "exit": child.returncode,
                "steps told": lines(trial.folder / "killed"),
                "newest checkpoint": int(kept[-1].name) if kept else 0,
            }
        )
    return rows


def _steps_told(trial: Trial, child: subprocess.Popen[str], step: int) -> float:
    """Wait until this start has told of `step`; the seconds until its first step."""
    run, begun = trial.folder / "killed", time.monotonic()
    record = run / "metrics.jsonl"
    first, stamp = 0.0, _written(record)
    while child.poll() is None and time.monotonic() - begun < LIMIT:
        if _written(record) != stamp:
            first = first or time.monotonic() - begun
            if lines(run) >= step:
                break
        time.sleep(0.001)
    return first


def _written(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


def _wait(child: subprocess.Popen[str], until: float) -> None:
    while child.poll() is None and time.monotonic() < until:
        time.sleep(0.001)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def alter(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def damaged(trial: Trial, harm: Callable[[Path], None], wanted: Any) -> dict[str, Any]:
    """Damage the newest checkpoint's largest file and train again."""
    name = harm.__name__
    shutil.copytree(trial.folder / "straight", trial.folder / name)
    newest = trial.checkpoints(name)[-1]
    files = [path for path in (newest / "arrays").rglob("*") if path.is_file()]
    harm(max(files, key=lambda path: path.stat().st_size))
    said = trial.finish(name)
    return {
        "what": f"checkpoint {newest.name}: {name}",
        "refused by name": f"{newest} is refused" in said,
        "went on from the one before": "going on after step" in said,
        "bit-equal": trial.arrays(name) == wanted,
    }


def main(arguments: Sequence[str]) -> int:
    """Print tables, or JSON; 1 if anything was lost."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.resilience", description=__doc__
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(Path(folder), given.steps)
        trial.config.write_text(CONFIG.format(steps=given.steps), encoding="utf-8")
        trial.finish("straight")
        wanted = trial.arrays("straight")
        kills = killed(trial, given.kills, given.seed)
        trial.finish("killed")
        equal = trial.arrays("killed") == wanted
        harms = [damaged(trial, harm, wanted) for harm in (truncate, alter)]
    hit = sum(row["exit"] == -9 for row in kills)
    if given.json:
        document = {"kills": kills, "killed": hit, "bit-equal": equal, "damage": harms}
        print(json.dumps(document, indent=2))
    else:
        print(tabulate(kills, headers="keys"))
        print(
            f"\n{hit} of {given.kills} kills hit a running process; final arrays "
            f"({len(wanted)}) bit-equal to the undisturbed run: {equal}\n"
        )
        print(tabulate(harms, headers="keys"))
    sound = all(value is not False for row in harms for value in row.values())
    return 0 if equal and sound and hit == given.kills else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
