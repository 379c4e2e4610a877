"""Real text as the layer's input, and what the demo shows as text."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ir import mlir

BARS = "▁▂▃▄▅▆▇█"
PLAIN_BARS = ".:-=+*#@"
WIDTH = 100


def text_bytes(count: int) -> tuple[Path, NDArray[np.uint8]]:
    """A text file that every Python installation has, and its first `count` bytes."""
    path = Path(argparse.__file__)
    data = np.frombuffer(path.read_bytes(), np.uint8)
    return path, np.resize(data, count)


def embed(tokens: NDArray[np.uint8], model: int, seed: int = 0) -> NDArray[np.float32]:
    """Each byte's row of a random table [256, model], of root mean square 1."""
    table = np.random.default_rng(seed).standard_normal((256, model))
    table /= np.sqrt(np.mean(table**2, axis=1, keepdims=True))
    return np.asarray(table[tokens], np.float32)


def trimmed(stage: str, lines: int = 16) -> str:
    """The outermost ops of `forward` in a printed module, each cut to one line."""
    module = mlir.parse(stage)
    function = mlir.functions(module)["forward"]
    text = function.operation.get_asm(enable_debug_info=False)
    ops = [line for line in text.split("\n") if line[:2] == "  " and line[2:3] in "%r"]
    shown = [_cut(line) for line in ops[:lines]]
    head = _cut(text.split("\n")[0])
    rest = len(ops) - lines
    return "\n".join(
        (head, *shown, *([f"  ... and {rest} more ops"] if rest > 0 else []))
    )


def _cut(line: str) -> str:
    return line if len(line) <= WIDTH else f"{line[: WIDTH - 4]} ..."


def chart(load: Sequence[int] | NDArray[Any], capacity: int, bars: str = BARS) -> str:
    """Rows per expert, 16 experts a line, as bars whose full height is the capacity."""
    lines = []
    for first in range(0, len(load), 16):
        part = [int(n) for n in load[first : first + 16]]
        heights = [min(-(-n * len(bars) // max(capacity, 1)), len(bars)) for n in part]
        drawn = " ".join(bars[height - 1] if height else " " for height in heights)
        numbers = " ".join(f"{n:>3}" for n in part)
        lines.append(f"  {first:>3} |{drawn}|  {numbers}")
    return "\n".join(lines)
