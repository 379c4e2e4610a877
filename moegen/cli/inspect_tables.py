"""The tables of `moegen inspect`: what ops need, and what kernels do on a chip."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backends.estimate import Estimate
    from moegen.report import KernelRow, Total

_NEEDS = (
    "kernel",
    "rows",
    "experts",
    "MFLOP needed",
    "KiB read, least",
    "KiB written, least",
    "FLOP/byte",
    "how obtained",
    "schedule",
)
_NEEDS_ALIGN = ("left", *["right"] * 6, "left", "left")
_DOES = (
    "kernel",
    "MFLOP needed",
    "done / needed",
    "HBM MiB",
    "VMEM MiB",
    "SMEM KiB",
    "grid",
    "parallel steps",
    "roofline us",
    "bound by",
    "how obtained",
)
_DOES_ALIGN = ("left", *["right"] * 5, "left", *["right"] * 2, "left", "left")


def needs_table(rows: Sequence["KernelRow"], total: "Total") -> str:
    """What every op needs at least, from its shapes."""
    cells = [
        [row.op, row.rows, row.experts, *_amounts(row), row.how, schedule(row.schedule)]
        for row in rows
    ]
    last = ["total", None, None, *_amounts(total), total.how, ""]
    return _table([*cells, last], _NEEDS, _NEEDS_ALIGN)


def does_table(rows: Sequence["KernelRow"], total: "Total") -> str:
    """What every kernel does under its schedule."""
    cells = [_does(row, row.estimate) for row in rows if row.estimate]
    done, moved, seconds = total.flops_done, total.hbm_bytes, total.seconds
    last = [
        "total",
        *_products(total.flops, done or 0),
        _mebibytes(moved),
        *[None] * 4,
        f"{(seconds or 0.0) * 1e6:,.1f}",
        None,
        total.how,
    ]
    return _table([*cells, last], _DOES, _DOES_ALIGN)


def schedules(rows: Sequence["KernelRow"]) -> list[str]:
    """One line for the schedule of every kernel that has one."""
    return [
        f"  {row.estimate.name} ({row.line}): {schedule(row.schedule)}"
        for row in rows
        if row.estimate and row.schedule
    ]


def schedule(fields: dict[str, Any]) -> str:
    return " ".join(f"{name}={_value(value)}" for name, value in fields.items())


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _does(row: "KernelRow", told: "Estimate") -> list[Any]:
    _, name = told.name.split(".", 1)
    scalars = told.scalar_bytes
    return [
        name,
        *_products(row.flops, told.flops),
        _mebibytes(told.hbm_bytes),
        _mebibytes(told.on_chip_bytes),
        None if scalars is None else f"{scalars / 2**10:,.1f}",
        " x ".join(map(str, told.grid)),
        told.parallel_steps,
        f"{told.seconds * 1e6:,.1f}",
        told.bound,
        row.how,
    ]


def _products(needed: int, done: int) -> list[str]:
    return [f"{needed / 1e6:,.3f}", f"{done / needed:.3f}" if needed else ""]


def _mebibytes(count: int | None) -> str | None:
    return None if count is None else f"{count / 2**20:,.2f}"


def _amounts(counted: "KernelRow | Total") -> list[str]:
    read, written = counted.bytes_read, counted.bytes_written
    moved = read + written
    intensity = f"{counted.flops / moved:.2f}" if moved else ""
    return [
        f"{counted.flops / 1e6:,.3f}",
        f"{read / 1024:,.1f}",
        f"{written / 1024:,.1f}",
        intensity,
    ]


def _table(cells: list[list[Any]], headers: Sequence[str], align: Sequence[str]) -> str:
    from tabulate import tabulate

    return tabulate(
        cells, headers, missingval="", disable_numparse=True, colalign=align
    )
