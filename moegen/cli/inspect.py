"""`moegen inspect`: what the kernels of a layer ask of a machine."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from moegen.cli.layer_options import add_layer_options, compile_layer
from moegen.cli.program import DONE, Subparsers, add_command, print_json
from moegen.cli.simulation import (
    PASSES,
    add_simulation_options,
    profiled_layer,
    simulation,
)

if TYPE_CHECKING:
    from moegen.operator import Op
    from moegen.report import KernelRow, Total

_NEEDS = (
    "Estimated from shapes, nothing here was measured: products of all rows that the\n"
    "plan has room for, each operand read once and each result written once."
)
_DOES = """\
Estimated from shapes, schedules and the figures of the chip table under uniform
routing; nothing here was compiled or measured. Needed are products of all rows that
the plan has room for; done are those with the padding of rows to chunks and of widths
to lanes and blocks. HBM bytes are those that the kernels' blocks move, with what
prepares their operands, and for XLA's ops each operand and result once. VMEM and SMEM
are blocks, buffers and scalars; a kernel can have {vmem} MiB and {smem} KiB. The
roofline is the longer of two times: products at {flops:,.0f} TFLOP/s of bfloat16, six
for one of float32, and HBM at {bandwidth:,.0f} GB/s. Sources of these:
{sources}."""


def register(subparsers: Subparsers) -> None:
    """Add the command `inspect`."""
    parser = add_command(
        subparsers,
        "inspect",
        "count what each kernel of a layer needs: FLOPs, bytes, rows",
        "moegen inspect glam --set tokens=64 experts=8 --json\n"
        "         moegen inspect glam --target tpu-v5e --set tokens=2048 experts=64\n"
        "         moegen inspect glam --target tpu-v5e --dtype bfloat16 --cycles",
    )
    add_layer_options(parser)
    parser.add_argument(
        "--cycles",
        action="store_true",
        help="compile for the TPU, too, and simulate the schedule: time and what binds",
    )
    add_simulation_options(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def run(arguments: argparse.Namespace) -> int:
    """Print one table a function."""
    asked = simulation("inspect --cycles", arguments) if arguments.cycles else None
    op = compile_layer(arguments)
    from moegen.report import totals

    rows = op.report()
    sums = totals(rows)
    obtained = provenance(op.target)
    passes = PASSES if op.weights is None else PASSES[:1]
    cycles = {p: profiled_layer(op, p, asked) for p in passes} if asked else {}
    if arguments.json:
        found = _document(op, arguments.dtype, rows, sums, obtained)
        print_json(found | ({"cycles": cycles} if cycles else {}))
        return DONE
    sizes = ", ".join(f"{name}={value}" for name, value in op.sizes.items())
    print(f"{op.name} for {op.target}, {arguments.dtype}: {sizes}")
    for total in sums:
        own = [row for row in rows if row.function == total.function]
        print(f"\n{total.function}\n{_section(own, total)}")
    print(f"\n{obtained}\nemitted source: {op.path}")
    _print_cycles(cycles)
    return DONE


def _print_cycles(cycles: dict[str, dict[str, Any]]) -> None:
    from moegen.cli.profile_tables import summary

    for name, report in cycles.items():
        print(f"\n{name}, simulated\n{summary(report)}")


def provenance(target: str) -> str:
    """Where the figures of a report for a target come from."""
    from backends.chips import CHIPS

    chip = CHIPS.get(target)
    if chip is None or chip.kind != "tpu":
        return _NEEDS
    from backends.tpu.legality import limit
    from backends.tpu.schedule import device_share

    share = device_share(chip)
    held = (chip.bf16_flops, chip.hbm_bandwidth, chip.on_chip_bytes, chip.scalar_bytes)
    return _DOES.format(
        vmem=f"{limit(chip, 'vmem') / 2**20:.1f}",
        smem=f"{limit(chip, 'smem') / 2**10:.1f}",
        flops=(chip.bf16_flops.value or 0) * share / 1e12,
        bandwidth=(chip.hbm_bandwidth.value or 0) * share / 1e9,
        sources="; ".join(dict.fromkeys(figure.source for figure in held)),
    )


def _section(rows: Sequence["KernelRow"], total: "Total") -> str:
    from moegen.cli.inspect_tables import does_table, needs_table, schedules

    if total.seconds is None:
        return needs_table(rows, total)
    return "\n".join((does_table(rows, total), "schedules:", *schedules(rows)))


def _document(
    op: "Op",
    dtype: str,
    rows: Sequence["KernelRow"],
    sums: Sequence["Total"],
    obtained: str,
) -> dict[str, Any]:
    return {
        "layer": op.name,
        "target": op.target,
        "dtype": dtype,
        "sizes": op.sizes,
        "source": str(op.path),
        "obtained": " ".join(obtained.split()),
        "kernels": [asdict(row) for row in rows],
        "totals": [asdict(total) for total in sums],
    }
