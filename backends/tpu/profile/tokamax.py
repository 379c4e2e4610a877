"""Times that Tokamax ships in its wheel for its grouped matmul, and our estimates.

Tokamax (github.com/openxla/tokamax, Apache 2.0) tunes its kernels on real TPUs and
ships, per device, each shape's best tiles with five times of the device. Read here:
`data/autotuning/DEVICE/pallas_mosaic_tpu_ragged_dot.json`. The times are the union of
all device ops of one call, so what XLA adds to the kernel is simulated and added too.
"""

import hashlib
import json
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from backends.tpu.profile.cores import core_symbol, simulate_device
from backends.tpu.profile.dump import Dump, KernelText
from backends.tpu.profile.dumps import Source, kept_dump
from backends.tpu.profile.group_tiles import GroupTiles, group_tiles
from backends.tpu.profile.latencies import latencies
from backends.tpu.profile.simulate import Profile, simulate
from ir.errors import BadArgument, UnknownScalar

DEVICES = {
    "v5e": "tpu_v5_lite",
    "v5p": "tpu_v5",
    "v6e": "tpu_v6_lite",
    "tpu7x": "tpu7x",
}
_FILE = "tokamax/data/autotuning/{}/pallas_mosaic_tpu_ragged_dot.json"
_CASES = Path(__file__).parent / "cases"
_SHAPE = re.compile(r"bf16\[([\d,]+)\]")
# What the contracted dimensions are called where the left operand is rows.
_FORMS = {"[[1], [1]]": "forward", "[[1], [2]]": "rows", "[[0], [0]]": "weights"}
# Written when the row gradient's tiles stood in the order of its own product.
_OLD_ORDER = ("v5e", "tpu7x")
# More than any of these chips has.
_VMEM_BYTES = 1 << 27


@dataclass(frozen=True)
class Entry:
    """One timed configuration. `tiles` are rows, contracted and output widths."""

    chip: str
    key: str
    form: str
    left: tuple[int, ...]
    right: tuple[int, ...]
    sizes: tuple[int, ...]
    tiles: tuple[int, int, int]
    buffers: int
    residuals: bool
    milliseconds: float

    @property
    def name(self) -> str:
        """Shapes and tiles, for a table."""
        shapes = " ".join("x".join(map(str, s)) for s in (self.left, self.right))
        tiles = "x".join(map(str, self.tiles))
        copied = " +copy" if self.residuals else ""
        return f"{self.form} {shapes} tiles {tiles} buffers {self.buffers}{copied}"

    @property
    def source(self) -> Source:
        """What to compile."""
        shapes = [f"bf16[{','.join(map(str, s))}]" for s in (self.left, self.right)]
        return Source(
            file=_CASES / "grouped.py",
            function="grouped",
            args=(*shapes, f"s32[{len(self.sizes)}]"),
            chip=self.chip,
            static={
                "form": self.form,
                "tiles": list(self.tiles),
                "buffers": self.buffers,
                "twice": self._twice,
            },
        )

    @property
    def _twice(self) -> bool:
        """Whether the compiled program copies its result.

        The program without the copy is the same but for it, unless the result is small
        enough for XLA to keep it in VMEM: so one compilation serves both entries.
        """
        large = 2 * self.left[0] * self.right[-1] > _VMEM_BYTES
        return self.form == "forward" and (self.residuals or large)

    @property
    def visits(self) -> GroupTiles:
        """The kernel's walk over the tiles of rows."""
        sizes = np.asarray(self.sizes, np.int64)
        return group_tiles(sizes, self.tiles[0], visit_empty=self.form == "weights")


def entries(source: Path, chip: str) -> list[Entry]:
    """All timed entries in bfloat16, in the order of a digest of their keys.

    Every second one is for testing. `source` is a wheel or a folder it was unpacked in.
    """
    path = _FILE.format(DEVICES[chip])
    root = zipfile.Path(source) if source.is_file() else source
    try:
        held = json.loads((root / path).read_text())
    except (OSError, KeyError, ValueError) as error:
        reason = f"{source} is no wheel or folder of Tokamax: {path}: {error}"
        raise BadArgument(reason=reason) from None
    found = [
        entry
        for key, timed in held.items()
        for config, data in timed.items()
        if (entry := _entry(chip, key, config, data))
    ]
    return sorted(found, key=lambda each: each.key)


def _entry(chip: str, key: str, config: str, data: dict[str, Any]) -> Entry | None:
    asked, tuned = json.loads(key), json.loads(config)
    times = data.get("evaluation_times_ms")
    if not times or not all(isinstance(asked[each], str) for each in ("lhs", "rhs")):
        return None
    left, right = (_SHAPE.fullmatch(asked[each]) for each in ("lhs", "rhs"))
    dimensions = asked["ragged_dot_dimension_numbers"]["dot_dimension_numbers"][0]
    form = _FORMS.get(str(dimensions))
    if left is None or right is None or form is None:
        return None
    rows, k, n = tuned["tile_m"], tuned["tile_k"], tuned["tile_n"]
    swapped = form == "rows" and chip not in _OLD_ORDER
    return Entry(
        chip=chip,
        key=hashlib.sha256(f"{key}{config}".encode()).hexdigest(),
        form=form,
        left=tuple(map(int, left[1].split(","))),
        right=tuple(map(int, right[1].split(","))),
        sizes=_sizes(asked["group_sizes"]),
        tiles=(rows, n, k) if swapped else (rows, k, n),
        buffers=tuned["input_buffer_count"],
        residuals=bool(asked["return_residuals"]),
        milliseconds=median(times),
    )


def _sizes(asked: Any) -> tuple[int, ...]:
    """Those listed; else rows thrown at even odds by NumPy's generator of seed 0."""
    if isinstance(asked, list):
        return tuple(asked)
    groups, rows = asked["num_groups"], asked["total_size"]
    thrown = np.random.default_rng(0).choice(groups, (rows,), replace=True)
    return tuple(map(int, np.bincount(thrown, minlength=groups)))


@dataclass(frozen=True)
class Estimate:
    """The kernel's profile, and seconds of what XLA put around it."""

    kernel: Profile
    around: float

    @property
    def milliseconds(self) -> float:
        """Of the whole call."""
        return 1e3 * (self.kernel.seconds + self.around)


def estimate(entry: Entry, source: Path, cache: Path | None, python: str) -> Estimate:
    """Compile and simulate an entry; `python` has jax and libtpu."""
    compiled = Source(**{**entry.source.__dict__, "paths": (source,)})
    held = kept_dump(compiled, cache, python)
    text = next(k for k in held.kernels if "ragged_dot" in k.name)
    scalars = entry.visits.scalars() | {"argument4": [0]} | _first_core(text)
    profile = simulate(text, entry.chip, scalars)
    left = {text.name} if entry.residuals else {text.name, *_results(held)}
    around = sum(_around(held, left))
    if any(name.startswith("copy-done") for name in _results(held)):
        around += _moved(entry)
    return Estimate(profile, around)


def _first_core(text: KernelText) -> dict[str, list[int]]:
    """No axis of the grid is marked parallel: one core does it all."""
    symbol = core_symbol(text.bundles)
    return {symbol: [0]} if symbol else {}


def _moved(entry: Entry) -> float:
    """Seconds of an asynchronous copy of the result to HBM, which has no bundles."""
    table = latencies(entry.chip)
    kib = 2 * entry.left[0] * entry.right[-1] / 1024
    return kib * table["cycles_per_kib"] / table["clock_hz"]


def _results(held: Dump) -> list[str]:
    """The ops that make the program's results: the kernel, and a copy of its result."""
    entry = held.compiled[held.compiled.find("\nENTRY") :]
    root = re.search(r"^  ROOT .* tuple\((.*?)\)", entry, re.MULTILINE)
    return re.findall(r"%([\w.\-]+)", root[1]) if root else []


def _around(held: Dump, left: set[str]) -> Iterator[float]:
    """Seconds of each of XLA's own ops but those in `left`.

    Those whose path cannot be known count as nothing.
    """
    for each in held.kernels:
        if each.name in left:
            continue
        try:
            yield simulate_device(each, held.chip, {}).seconds
        except UnknownScalar:
            continue
