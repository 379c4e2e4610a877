"""HBM bytes of the TPU's expert layers, beside the bound and the usual pipeline.

No device is needed: the bytes follow from the kernels' own grids and blocks, under
uniform routing. Routers and shared experts, which all have alike, are left out. Run as
`python -m bench.traffic`.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from tabulate import tabulate

from backends.chips import CHIPS, Chip
from backends.tpu.kernel_time import ranked, seconds
from backends.tpu.routed_rows import expected_multiplied
from backends.tpu.schedule import (
    Blocks,
    Work,
    blocks_in,
    chunk_rows,
    value_bytes,
    vmem_limit,
)
from bench.ahead import CHIPS as TPUS
from bench.ahead import Shape, shapes
from moegen.compiler import compile
from moegen.layers import find_layer

BYTES = 2  # bfloat16
PEER_TILES = (128, 256, 512, 1024)
EXPERTS = ("kernel.grouped_matmul", "kernel.combine")
BARS = {"Qwen3-30B": 0.8, "DeepSeek-V3": 0.8}


@dataclass(frozen=True)
class Layer:
    """Sizes of an expert layer; `gates` is 2 for gated experts, else 1."""

    tokens: int
    model: int
    hidden: int
    experts: int
    k: int
    gates: int

    @property
    def rows(self) -> int:
        return self.tokens * self.k

    def bound(self, training: bool) -> int:
        """The least bytes of fused kernels: peers that fuse all of it would move them.

        x, weights, hidden rows h (kept for the backward), activated rows a, result rows
        y, output: once or twice each, as a kernel a step has to.
        """
        x = self.tokens * self.model * BYTES
        y = self.rows * self.model * BYTES
        a = self.rows * self.hidden * BYTES
        h = self.gates * a
        w = (self.gates + 1) * self.experts * self.model * self.hidden * BYTES
        if not training:
            return x + w + 2 * a + 2 * y + x
        forward = x + w + h + 2 * a + 2 * y + x
        backward = x + w + 2 * h + a + (a + x + h + x) + h + 2 * y + w + x
        return forward + backward

    def peer(self, training: bool, chip: Chip) -> int:
        """megablox' grouped matmul with XLA's gather, activation and scatter.

        Each product takes the tile and the blocks that our model of time finds fastest,
        of all that its kernel allows.
        """
        x = self.tokens * self.model * BYTES
        y = self.rows * self.model * BYTES
        a = self.rows * self.hidden * BYTES
        h = self.gates * a
        up = self.gates * self.product(self.model, self.hidden, chip)
        down = self.product(self.hidden, self.model, chip)
        forward = 2 * y + up + (h + a) + down + (y + x)
        if not training:
            return forward
        gathered = 2 * y + y  # d_output to rows, and the gates' gradient with y
        sums = (self.gates + 1) * self.gradient(chip)
        into_x = self.gates * self.product(self.hidden, self.model, chip)
        added = 3 * y if self.gates == 2 else 0
        back = self.product(self.model, self.hidden, chip) + (h + a + h)
        return forward + gathered + back + sums + into_x + added + (y + x)

    def product(self, first: int, second: int, chip: Chip) -> int:
        work = Work(
            "rows", self.rows, self.experts, first, second, 1, BYTES, inner=2, results=2
        )
        return self.least(work, chip)

    def gradient(self, chip: Chip) -> int:
        widths = self.model, self.hidden
        work = Work("sums", self.rows, self.experts, *widths, 1, BYTES, 0, 2, 2, 2)
        return self.least(work, chip)

    def least(self, work: Work, chip: Chip) -> int:
        """Bytes at the fastest tile and blocks, by our model of time."""
        found = [(tile, best_blocks(work, tile, chip)) for tile in PEER_TILES]
        tile, blocks = min(found, key=lambda p: seconds(work, p[0], p[1], chip))
        return peer_bytes(work, tile, blocks)


def best_blocks(work: Work, tile: int, chip: Chip) -> Blocks:
    """The fastest blocks whose windows and sums fit in VMEM, two buffers a window."""
    alike = (
        b for b in ranked(work, tile, chip) if b.window in (0, tile) and not b.stay
    )
    return next(b for b in alike if fits(work, tile, b, chip))


def fits(work: Work, tile: int, blocks: Blocks, chip: Chip) -> bool:
    first, second = blocks[:2]
    if work.kind == "sums":
        moved = tile * (work.inner * first + work.columns * second)
        held = first * second * (4 + 2 * work.results)
    else:
        moved = tile * (work.inner * first + (work.columns + work.results) * second)
        moved += work.products * work.operand_bytes * first * second
        held = tile * second * 4
    values = value_bytes(work, chunk_rows(tile), blocks)
    return 2 * moved + held + values <= vmem_limit(chip)


def peer_bytes(work: Work, tile: int, blocks: Blocks) -> int:
    """Bytes of a kernel whose rows lie without padding, so that tiles are shared.

    A tile is visited once for every expert that has rows in it. Where the inner width
    is cut, each visit reads rows and weights anew; else what the last one left is used.
    """
    firsts, seconds = blocks_in(work, blocks)
    left, right = work.inner * work.first, work.columns * work.second
    if work.kind == "sums":
        result = work.experts * work.first * work.second * work.results
        return work.rows * (left * seconds + right * firsts) + result
    visits = -(-work.rows // tile) + work.experts - 1
    matrix = work.products * work.matrix_bytes * work.first * work.second
    out = work.rows * work.results * work.second
    if firsts == 1:
        return work.rows * left * seconds + out + matrix * work.experts
    return visits * tile * left * seconds + out + matrix * visits


def ours(
    shape: Shape, chip: str, training: bool, weights: str | None = None
) -> tuple[int, float]:
    """Bytes of the emitted module's expert kernels; FLOPs done over those needed."""
    layer = find_layer(shape.layer)
    op = compile(layer, chip, "bfloat16", weights=weights, **shape.sizes)
    names = ("forward_residuals", "backward") if training else ("forward",)
    moved, tile = 0, 0
    for row in op.report():
        if row.function in names and row.op in EXPERTS and row.estimate:
            moved += row.estimate.hbm_bytes
            tile = row.schedule.get("tile_rows", tile)
    return moved, padding(layer_of(shape), tile)


def padding(sizes: Layer, tile: int) -> float:
    """Rows multiplied over rows that are there, on average over uniform routings."""
    chunk = chunk_rows(tile)
    return expected_multiplied(sizes.rows, sizes.experts, chunk) / sizes.rows


def layer_of(shape: Shape) -> Layer:
    """The sizes of an expert layer at a shape."""
    sizes = shape.sizes
    gated = shape.layer in ("mixtral", "deepseek")
    held = {name: sizes[name] for name in ("tokens", "model", "hidden", "experts")}
    return replace(Layer(**held, k=2, gates=1 + gated), k=sizes.get("k", 2))


def rows(chips: list[str], only: str) -> Iterator[dict[str, Any]]:
    """One row for each shape, chip and direction."""
    for shape in shapes():
        if shape.name.startswith("small") or ", T" in shape.name:
            continue
        if only not in shape.name:
            continue
        sizes = layer_of(shape)
        for chip in chips:
            for training in (False, True):
                own, padded = ours(shape, chip, training)
                peer, bound = sizes.peer(training, CHIPS[chip]), sizes.bound(training)
                yield {
                    "shape": shape.name,
                    "chip": chip,
                    "pass": "training" if training else "forward",
                    "ours GB": own / 1e9,
                    "fused bound GB": bound / 1e9,
                    "pipeline GB": peer / 1e9,
                    "of pipeline": own / peer,
                    "bar": BARS.get(shape.name, 1.0),
                    "FLOPs done / needed": padded,
                }


def main(arguments: list[str]) -> int:
    """Print a table, or JSON; 1 if a bar is missed."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.traffic", description=__doc__
    )
    parser.add_argument("--chip", action="append", choices=TPUS, help="only this one")
    parser.add_argument("--only", default="", help="shapes whose name contains this")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    found = list(rows(given.chip or list(TPUS), given.only))
    missed = [row for row in found if row["of pipeline"] > row["bar"]]
    if given.json:
        told = {"rows": found, "obtained": "estimated from blocks and grids"}
        print(json.dumps(told))
    else:
        print(tabulate(found, headers="keys", floatfmt=".2f"))
        print(f"\n{len(missed)} beyond their bar; estimated from the kernels' blocks")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
