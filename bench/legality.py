"""Random schedules: what the legality check says of them beside what libtpu says.

Each draw is one kernel of a layer under a schedule that keeps to the kernels' own rules
and to nothing else. The check must refuse nothing that libtpu accepts, and find at
least 95 % of what libtpu refuses. No device is needed. `python -m bench.legality`.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from tabulate import tabulate

from backends.chips import CHIPS
from backends.schedule_choices import NO_CHOICES
from backends.targets import find_target
from backends.tpu.buffers import total
from backends.tpu.compile import Job, Kind, Outcome, compile_many
from backends.tpu.kernel_ops import (
    STEP,
    TILES,
    KernelOp,
    combine_kernels,
    grouped_kernels,
    router_kernels,
)
from backends.tpu.legality import needed, problems
from backends.tpu.own_rules import legal_values, own_problems
from backends.tpu.router_rules import router_values
from backends.tpu.schedule import STAY, WINDOW, parts_of
from bench import one_kernel
from bench.ahead import CHIPS as TPUS
from ir import mlir
from ir.errors import KernelTooLarge
from ir.pipeline import make_pass, run_passes
from ir.router_sizes import sizes_of
from moegen.compiler import ALL_PASSES, order_for
from moegen.layers import find_layer
from moegen.trace import trace

DRAWS = 200
CAUGHT = 0.95  # of what libtpu refuses
LIMIT = 90.0  # seconds for one kernel

_CHUNKS = (16, 32, 64, 128, 128, 128, 256)
_CHUNKS_OF_A_TILE = (1, 2, 3, 4, 8, 16, 32, 48, 64, 96, 128, 192, 256)
_MOST_ROWS = 32768

# Layers, dtypes and sizes: whole and broken lanes, few and many rows, large matrices.
SHAPES: tuple[tuple[str, str, dict[str, int]], ...] = (
    ("mixtral", "bfloat16", {"tokens": 4096, "model": 512, "hidden": 1024}),
    ("mixtral", "bfloat16", {"tokens": 2048, "model": 1024, "hidden": 3072}),
    ("mixtral", "float32", {"tokens": 2048, "model": 768, "hidden": 1536}),
    ("glam", "bfloat16", {"tokens": 1000, "model": 384, "hidden": 1000}),
    ("glam", "bfloat16", {"tokens": 8192, "model": 2048, "hidden": 4096}),
    ("mixtral", "bfloat16", {"tokens": 2**19, "model": 256, "hidden": 384, "k": 8}),
)


@dataclass(frozen=True)
class Drawn:
    """One draw: what the check says of it, and the bytes of VMEM that it counts."""

    kernel: str
    shape: str
    schedule: dict[str, Any]
    verdict: str  # "legal", or the class of what is wrong
    sentence: str
    least: int  # needed for certain
    counted: int


def fused(layer: str, dtype: str, sizes: dict[str, int], chip: str) -> str:
    """The IR of a layer for a chip, before its schedule."""
    target = find_target(chip)
    passes = [make_pass(name, {}, ALL_PASSES) for name in order_for(target)[:-1]]
    module = trace(find_layer(layer), dtype, experts=8, **sizes)
    return mlir.print_module(run_passes(module, passes, lambda name, module: None))


def draw(text: str, chip: str, random: Random) -> tuple[KernelOp, mlir.Module]:
    """A kernel of a module with a random schedule on it, and the module."""
    module = mlir.parse(text)
    with mlir.context():
        find_target(chip).schedule(module, NO_CHOICES)
        grouped = [k for k in grouped_kernels(module) if k.kind != "row_maps"]
        combines, routers = combine_kernels(module), router_kernels(module)
        kernel = random.choice([*grouped, *grouped, *combines, *routers])
        schedule = drawn_schedule(kernel, chip, random)
        shared = {f: v for f, v in schedule.items() if f in (*TILES, STEP)}
        for other in combines if kernel in combines else grouped_kernels(module):
            other.put(other.schedule | shared)
        kernel.put(schedule)
    return kernel, module


def drawn_schedule(kernel: KernelOp, chip: str, random: Random) -> dict[str, Any]:
    """A random schedule that the kernel can run, if a chip lets it."""
    while True:
        match kernel.kind:
            case "combine_rows":
                schedule = _steps(random)
            case "router":
                schedule = _router(kernel, random)
            case _:
                schedule = _blocks(kernel, random)
        if not any(own_problems(kernel, schedule, CHIPS[chip])):
            return schedule


def _steps(random: Random) -> dict[str, Any]:
    return {STEP: random.choice((8, 16, 24, 40, 64, 128, 256, 512, 1024, 2048, 8192))}


def _router(kernel: KernelOp, random: Random) -> dict[str, Any]:
    """Runs, and tiles and pieces that go with them."""
    sizes = sizes_of(kernel.op)
    schedule: dict[str, Any] = {}
    for field in ("runs", "tile_tokens", "piece"):
        schedule[field] = random.choice(router_values(sizes, schedule, field))
    return schedule


def _blocks(kernel: KernelOp, random: Random) -> dict[str, Any]:
    chunk = random.choice(_CHUNKS)
    tile = min(chunk * random.choice(_CHUNKS_OF_A_TILE), _MOST_ROWS)
    schedule: dict[str, Any] = {"tile_rows": tile, "chunk_rows": chunk}
    for field, width in kernel.widths.items():
        divisors = [n for n in range(8, width + 1) if width % n == 0]
        every = divisors if random.random() < 0.2 else legal_values(kernel, field)
        schedule[field] = random.choice(every)
    if WINDOW in kernel.fields:
        schedule[WINDOW] = random.choice(parts_of(tile))
    if STAY in kernel.fields:
        schedule[STAY] = random.random() < 0.5
    fetched = kernel.fetched_field
    schedule["fetches"] = fetched is not None and random.random() < 0.5
    if fetched and schedule["fetches"] and random.random() < 0.9:
        schedule[fetched] = kernel.widths[fetched]
    return schedule


def judged(kernel: KernelOp, chip: str, shape: str) -> Drawn:
    """What the check says of a kernel."""
    schedule, told = kernel.schedule, CHIPS[chip]
    problem = next(problems(kernel, schedule, told), None)
    buffers = kernel.buffers(schedule, told)
    verdict = "legal"
    if isinstance(problem, KernelTooLarge):
        verdict = "scalar memory" if "SMEM" in problem.facts["memory"] else "VMEM"
    elif problem:
        verdict = "fetches" if "fetches" in problem.facts["reason"] else "lanes"
    return Drawn(
        kernel.name,
        shape,
        schedule,
        verdict,
        str(problem or ""),
        needed(buffers, "vmem", told),
        total(buffers, "vmem"),
    )


def draws(
    chip: str, count: int, seed: int, folder: Path
) -> Iterator[tuple[Drawn, Job]]:
    """Draws for a chip, each with the job that asks libtpu."""
    random = Random(f"{seed} {chip}")
    texts = [fused(*shape, chip) for shape in SHAPES]
    for number in range(count):
        position = random.randrange(len(SHAPES))
        layer, dtype, sizes = SHAPES[position]
        kernel, module = draw(texts[position], chip, random)
        named = " ".join(f"{name}={size}" for name, size in sizes.items())
        drawn = judged(kernel, chip, f"{layer} {dtype} {named}")
        emitted = find_target(chip).emit(module)
        alone, arguments = one_kernel.program(emitted, kernel)
        path = alone.write(folder, f"{chip}_{number}")
        name = chip.removeprefix("tpu-")
        yield drawn, Job(name, str(path), one_kernel.NAME, arguments)


def compared(
    chip: str, given: argparse.Namespace, folder: Path
) -> list[tuple[Drawn, Outcome]]:
    """What the check says and what libtpu says, of every draw for a chip."""
    made = list(draws(chip, given.draws, given.seed, folder))
    outcomes = compile_many(
        [job for _, job in made],
        workers=given.workers,
        limit_s=LIMIT,
        cache=given.cache,
    )
    drawn = [drawn for drawn, _ in made]
    return list(zip(drawn, outcomes, strict=True))


def summary(chip: str, found: list[tuple[Drawn, Outcome]]) -> dict[str, Any]:
    """The counts of one chip."""
    decided = [pair for pair in found if asked(pair[1])]
    late = sum(outcome.kind is Kind.TIMED_OUT for _, outcome in found)
    refused = [(d, o) for d, o in decided if not o.legal]
    caught = sum(d.verdict != "legal" for d, _ in refused)
    return {
        "chip": chip,
        "drawn": len(found),
        "legal": sum(o.legal for _, o in decided),
        "refused by the check alone": sum(
            d.verdict != "legal" and o.legal for d, o in decided
        ),
        "refused by libtpu": len(refused),
        "caught": caught,
        "caught %": 100 * caught / len(refused) if refused else 100.0,
        "timed out": late,
        "failed in Python": len(found) - len(decided) - late,
        **{f"by {name}": n for name, n in sorted(_classes(refused).items())},
    }


def asked(outcome: Outcome) -> bool:
    """Whether libtpu decided: Python may fail before, and time may run out."""
    early = outcome.stage in ("import", "trace") and not outcome.legal
    return not early and outcome.kind is not Kind.TIMED_OUT


def _classes(refused: list[tuple[Drawn, Outcome]]) -> Counter[str]:
    return Counter(d.verdict for d, _ in refused if d.verdict != "legal")


def missed(found: list[tuple[Drawn, Outcome]]) -> Iterator[str]:
    """Where the two do not agree, and where libtpu was never asked, one line each."""
    for drawn, outcome in found:
        if outcome.kind is Kind.TIMED_OUT:
            continue
        if asked(outcome) and (drawn.verdict == "legal") == outcome.legal:
            continue
        told = ", ".join(f"{f}={v}" for f, v in drawn.schedule.items())
        said = (asked(outcome) and drawn.sentence) or outcome.reason
        yield (
            f"{drawn.shape}: {drawn.kernel} with {told}: the check says "
            f"{drawn.verdict}, libtpu {outcome.kind}: {said}"
        )


def outside(found: list[tuple[Drawn, Outcome]]) -> int:
    """Legal kernels whose VMEM is less than what is counted as certain."""
    return sum(
        outcome.legal and (outcome.vmem_bytes or 0) < drawn.least
        for drawn, outcome in found
    )


def main(arguments: list[str]) -> int:
    """Print a table, or JSON; 1 if a bar is missed."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.legality", description=__doc__
    )
    parser.add_argument("--chip", action="append", choices=TPUS, help="only this one")
    parser.add_argument("--draws", type=int, default=DRAWS, help="for each chip")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--cache", type=Path, help="a folder of outcomes to keep")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    rows, lines = [], []
    with TemporaryDirectory() as folder:
        for chip in given.chip or TPUS:
            found = compared(chip, given, Path(folder))
            rows.append(summary(chip, found))
            lines += [f"{chip}: {line}" for line in missed(found)]
    good = all(
        row["refused by the check alone"] == row["failed in Python"] == 0
        and row["caught %"] >= 100 * CAUGHT
        for row in rows
    )
    if given.json:
        told = {"rows": rows, "apart": lines, "obtained": "compiled ahead of time"}
        print(json.dumps(told, indent=1))
    else:
        print("\n".join(lines))
        print(tabulate(rows, headers="keys", floatfmt=".1f"))
        print("\ncompiled ahead of time by libtpu; no device")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
