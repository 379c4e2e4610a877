"""`moegen inspect`: what the kernels of a layer ask of a machine."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from moegen.cli.layer_options import add_layer_options, compile_layer
from moegen.cli.program import DONE, Subparsers, add_command, print_json

if TYPE_CHECKING:
    from moegen.operator import Op
    from moegen.report import KernelRow, Total

_HEADERS = (
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
_ALIGN = ("left", *["right"] * 6, "left", "left")


def register(subparsers: Subparsers) -> None:
    """Add the command `inspect`."""
    parser = add_command(
        subparsers,
        "inspect",
        "count what each kernel of a layer needs: FLOPs, bytes, rows",
        "moegen inspect glam --set tokens=64 experts=8 --json",
    )
    add_layer_options(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def run(arguments: argparse.Namespace) -> int:
    """Print one table a function."""
    op = compile_layer(arguments)
    from moegen.report import totals

    rows = op.report()
    sums = totals(rows)
    if arguments.json:
        print_json(_document(op, arguments.dtype, rows, sums))
        return DONE
    sizes = ", ".join(f"{name}={value}" for name, value in op.sizes.items())
    print(f"{op.name} for {op.target}, {arguments.dtype}: {sizes}")
    for total in sums:
        own = [row for row in rows if row.function == total.function]
        print(f"\n{total.function}\n{_table(own, total)}")
    print(
        "\nEstimated from shapes, nothing here was measured: products of all rows that "
        "the\nplan has room for, each operand read once and each result written once."
    )
    print(f"emitted source: {op.path}")
    return DONE


def _table(rows: Sequence["KernelRow"], total: "Total") -> str:
    from tabulate import tabulate

    cells = [_cells(row) for row in rows]
    last = ["total", None, None, *_amounts(total), total.how, ""]
    return tabulate(
        [*cells, last],
        _HEADERS,
        missingval="",
        disable_numparse=True,
        colalign=_ALIGN,
    )


def _cells(row: "KernelRow") -> list[Any]:
    counted = _amounts(row)
    return [row.op, row.rows, row.experts, *counted, row.how, _schedule(row.schedule)]


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


def _schedule(schedule: dict[str, Any]) -> str:
    return " ".join(f"{name}={_value(value)}" for name, value in schedule.items())


def _value(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _document(
    op: "Op", dtype: str, rows: Sequence["KernelRow"], sums: Sequence["Total"]
) -> dict[str, Any]:
    return {
        "layer": op.name,
        "target": op.target,
        "dtype": dtype,
        "sizes": op.sizes,
        "source": str(op.path),
        "kernels": [asdict(row) for row in rows],
        "totals": [asdict(total) for total in sums],
    }
