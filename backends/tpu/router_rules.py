"""What a router's kernel asks of its schedule itself, whatever the chip."""

from collections.abc import Mapping
from typing import Any

from backends.chips import Chip
from backends.tpu.schedule import cores, cuts
from ir.router_sizes import LANES, RouterSizes

Schedule = Mapping[str, Any]

_MOST_TOKENS = 1 << 16  # of a tile, that are worth naming
_MOST_RUNS = 64  # of a group, that are worth naming


def router_reason(
    sizes: RouterSizes, schedule: Schedule, field: str, value: Any
) -> str:
    """Why a field's value is wrong; empty if it is not."""
    if type(value) is not int or value < 1:
        return "it must be a positive whole number"
    if field == "runs":
        return _wrong_runs(sizes, value)
    if field == "piece":
        return _wrong_piece(sizes, value)
    size = run_tokens(sizes, schedule)
    if value > size:
        return f"a run has only {size} tokens"
    if value % LANES and value != size:
        return f"a tile is all {size} tokens of a run, or a multiple of {LANES}"
    return ""


def router_values(sizes: RouterSizes, schedule: Schedule, field: str) -> list[int]:
    """The legal values of a field that are worth naming, the largest first."""
    if field == "piece":
        return cuts(sizes.width) if sizes.cuts else [sizes.width]
    if field == "runs":
        size = sizes.tokens // sizes.groups
        parts = range(min(size, _MOST_RUNS), 0, -1)
        return [sizes.groups * n for n in parts if size % n == 0]
    size = run_tokens(sizes, schedule)
    tiles = range(LANES, min(size, _MOST_TOKENS + 1), LANES)
    return [size, *reversed(tiles)]


def run_cores(runs: int, chip: Chip) -> int:
    """TensorCores that share the runs: all of a device's, or one."""
    return cores(chip) if runs % cores(chip) == 0 else 1


def run_tokens(sizes: RouterSizes, schedule: Schedule) -> int:
    """The tokens of a run; of a group, where the schedule's runs are none."""
    runs = schedule.get("runs")
    if type(runs) is not int or runs < 1 or _wrong_runs(sizes, runs):
        runs = sizes.groups
    return sizes.tokens // runs


def _wrong_runs(sizes: RouterSizes, value: int) -> str:
    size = sizes.tokens // sizes.groups
    if value % sizes.groups == 0 and size % (value // sizes.groups) == 0:
        return ""
    if sizes.groups == 1:
        return f"runs are equal parts of its {size} tokens"
    return f"runs are equal parts of its {sizes.groups} groups, of {size} tokens each"


def _wrong_piece(sizes: RouterSizes, value: int) -> str:
    width = sizes.width
    if value == width:
        return ""
    if not sizes.cuts:
        return f"its rows, of {width} columns, are not cut"
    if value % LANES or width % value:
        return f"pieces fill its width of {width}, with a multiple of {LANES} columns"
    return ""
