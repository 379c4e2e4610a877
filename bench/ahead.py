"""The layers at real shapes, compiled ahead of time for every TPU.

No device is needed: libtpu says whether a program is legal, and how much memory it
takes. Run as `python -m bench.ahead`.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tabulate import tabulate

from backends.chips import CHIPS as TABLE
from backends.targets import TARGETS
from backends.tpu.compile import Argument, Job, Outcome, compile_many
from ir.narrow import STORED
from moegen.compiler import compile
from moegen.layers import SHIPPED, find_layer
from moegen.plain import FORWARD, TRAINING, arrays, whole

CHIPS = tuple(name for name, target in TARGETS.items() if target.cuts)
FUNCTIONS = (FORWARD, TRAINING)
LIMIT = 900.0  # seconds for one program; DeepSeek-V3 takes 400 on a busy core


@dataclass(frozen=True)
class Shape:
    """A layer at a shape that models have; its name says whose."""

    name: str
    layer: str
    sizes: dict[str, Any]


def _glam(name: str, tokens: int, model: int, hidden: int, experts: int) -> Shape:
    sizes = {"tokens": tokens, "model": model, "hidden": hidden, "experts": experts}
    more = {"capacity_factor": float(experts), "k": min(2, experts)}
    return Shape(name, "glam", sizes | more)


def _mixtral(name: str, tokens: int, model: int, hidden: int, **more: int) -> Shape:
    sizes = {"tokens": tokens, "model": model, "hidden": hidden, "experts": 8}
    return Shape(name, "mixtral", sizes | more)


def shapes() -> Iterator[Shape]:
    """Small ones of all layers, then slices of models, then a few tokens at a time."""
    for layer in SHIPPED:
        sizes = {"tokens": 256, "model": 128, "hidden": 256}
        experts = {} if layer == "glam_dense" else {"experts": 8}
        shared = {"shared": 128, "k": 3} if layer == "deepseek" else {}
        yield Shape(f"small {layer}", layer, sizes | experts | shared)
    yield _glam("GLaM 0.1B/64E", 2048, 768, 3072, 64)
    yield _glam("GLaM 64B/64E, 1 expert", 8192, 8192, 32768, 1)
    yield _glam("GLaM 64B/64E, 4 experts", 4096, 8192, 32768, 4)
    yield _glam("GLaM 8B/64E, 8 experts", 8192, 4096, 16384, 8)
    yield _mixtral("Mixtral 8x7B", 8192, 4096, 14336)
    yield _mixtral("Qwen3-30B", 8192, 2048, 768, experts=128, k=8)
    deepseek = {"tokens": 4096, "model": 7168, "hidden": 2048, "experts": 32}
    yield Shape("DeepSeek-V3", "deepseek", deepseek | {"k": 8, "shared": 2048})
    for tokens in (1, 16, 128):
        yield _glam(f"GLaM 0.1B/64E, T = {tokens}", tokens, 768, 3072, 64)
        yield _mixtral(f"Mixtral 8x7B, T = {tokens}", tokens, 4096, 14336)


def outcomes(
    chosen: list[Shape],
    chips: list[str],
    folder: Path,
    cache: Path | None,
    weights: str | None = None,
) -> Iterator[tuple[Shape, str, str, Outcome]]:
    """Every shape, chip and function, with what libtpu said, in bfloat16.

    With `weights` of one byte there is no training.
    """
    jobs, labels = [], []
    for number, shape in enumerate(chosen):
        for chip in chips:
            layer = find_layer(shape.layer)
            op = compile(
                layer, chip, "bfloat16", folder, weights=weights, **shape.sizes
            )
            path = whole(op).write(folder, f"{shape.layer}_{number}_{chip}")
            arguments = tuple(Argument(*held) for held in arrays(op))
            for function in FUNCTIONS[:1] if weights else FUNCTIONS:
                name = chip.removeprefix("tpu-")
                jobs.append(Job(name, str(path), function, arguments))
                labels.append((shape, chip, function.removeprefix("whole_")))
    found = compile_many(jobs, limit_s=LIMIT, cache=cache)
    for label, outcome in zip(labels, found, strict=True):
        yield *label, outcome


def having(weights: str | None) -> list[str]:
    """The chips that have weights of that name; all without one."""
    return [c for c in CHIPS if weights is None or weights in TABLE[c].narrow]


def main(arguments: list[str]) -> int:
    """Print a table, or JSON; 1 if a program was refused."""
    parser = argparse.ArgumentParser(prog="python -m bench.ahead", description=__doc__)
    parser.add_argument("--chip", action="append", choices=CHIPS, help="only this one")
    parser.add_argument("--only", default="", help="shapes whose name contains this")
    parser.add_argument("--cache", type=Path, help="a folder of outcomes to keep")
    parser.add_argument(
        "--weights", choices=STORED, help="of one byte, on the chips that have them"
    )
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    chosen = [shape for shape in shapes() if given.only in shape.name]
    with TemporaryDirectory() as folder:
        chips = given.chip or having(given.weights)
        cache, weights = given.cache, given.weights
        found = list(outcomes(chosen, chips, Path(folder), cache, weights))
    rows = [
        {"shape": s.name, "chip": chip, "function": name} | _told(outcome)
        for s, chip, name, outcome in found
    ]
    if given.json:
        print(json.dumps({"rows": rows, "obtained": "compiled ahead of time"}))
    else:
        print(tabulate(rows, headers="keys", floatfmt=".1f"))
        legal = sum(outcome.legal for *_, outcome in found)
        print(f"\n{legal} of {len(found)} legal; compiled ahead of time by libtpu")
    return 0 if all(outcome.legal for *_, outcome in found) else 1


def _told(outcome: Outcome) -> dict[str, Any]:
    def mebibytes(count: int | None) -> float | None:
        return None if count is None else count / 2**20

    return {
        "outcome": outcome.kind.value,
        "VMEM MiB": mebibytes(outcome.vmem_bytes),
        "temporaries MiB": mebibytes(outcome.temporary_bytes),
        "HLO": outcome.hlo_instructions,
        "compile s": outcome.seconds,
        "reason": outcome.reason,
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
