"""What `moegen profile` prints of a report: its ops, and its hottest loops."""

from collections.abc import Iterator
from typing import Any

_LEAST_SHARE = 0.01  # of the time, for an op to have a line of its own
_LOOPS = 6
# What an op's time goes to, or a loop's.
_SPENT = ("MXU %", "HBM GB/s", "binds", "% of its peak", "stalls", "spills")
_SPENT_ALIGN = ("right", "right", "left", "right", "left", "right")
_OPS = ("op", "kind", "runs", "us", "share %", *_SPENT, "from", "class")
_OPS_ALIGN = ("left", "left", *["right"] * 3, *_SPENT_ALIGN, "left", "left")
_LOOP = (
    "loop in",
    "bundles",
    "depth",
    "rounds",
    "cycles a round",
    "share %",
    *_SPENT,
)
_LOOP_ALIGN = ("left", "left", *["right"] * 4, *_SPENT_ALIGN)


def summary(report: dict[str, Any]) -> str:
    """The whole text."""
    return "\n".join((*_head(report), "", *_ops(report), *_loops(report), _end(report)))


def _head(report: dict[str, Any]) -> Iterator[str]:
    rate = f"{report['hbm_bytes_per_second'] / 1e9:,.0f}"
    best = f"{report['peak_hbm_bytes_per_second'] / 1e9:,.0f}"
    yield (
        f"{report['function']} for {report['target']}, routing {report['routing']}: "
        f"{report['microseconds']:,.1f} us"
    )
    yield (
        f"MXU fed {report['mxu_busy']:.0%} of the time, HBM {rate} GB/s of {best}; "
        f"{report['kernels']} kernels, {len(report['ops'])} ops"
    )


def _ops(report: dict[str, Any]) -> Iterator[str]:
    shown = [op for op in report["ops"] if op["share"] >= _LEAST_SHARE]
    yield _table([_op_cells(op) for op in shown], _OPS, _OPS_ALIGN)
    rest = [op for op in report["ops"] if op["share"] < _LEAST_SHARE]
    if rest:
        yield f"{len(rest)} more ops, {sum(op['us'] for op in rest):,.1f} us together"
    for name in sorted({op["class"] for op in shown}):
        yield f"class {name}: {report['confidence'][name]}"
    yield from (f"{op['name']}: {op['note']}" for op in shown if op["note"])


def _op_cells(op: dict[str, Any]) -> list[str]:
    known = op["binds"] is not None
    return [
        op["name"],
        op["kind"],
        str(op["runs"]),
        f"{op['us']:,.1f}",
        f"{100 * op['share']:.1f}",
        *(_spent(op) if known else [""] * len(_SPENT)),
        op["obtained_from"],
        op["class"],
    ]


def _loops(report: dict[str, Any]) -> Iterator[str]:
    """The hottest loops, the loops inside each counted apart."""
    loops = report["loops"][:_LOOPS]
    if not loops:
        return
    yield (
        "\nhottest loops, each without the loops inside it; bytes count where their "
        "copies start,\nand may move during inner loops: so HBM can exceed its peak"
    )
    yield _table([_loop_cells(loop) for loop in loops], _LOOP, _LOOP_ALIGN)


def _loop_cells(loop: dict[str, Any]) -> list[str]:
    begin, end = loop["bundles"]
    return [
        loop["op"],
        f"{begin:#x}-{end - 1:#x}",
        str(loop["depth"]),
        f"{loop['rounds']:,}",
        f"{loop['cycles_per_round']:,.1f}",
        f"{100 * loop['share']:.1f}",
        *_spent(loop),
    ]


def _spent(part: dict[str, Any]) -> list[str]:
    return [
        f"{100 * part['mxu_busy']:.0f}",
        f"{part['hbm_bytes_per_second'] / 1e9:,.0f}",
        part["binds"],
        f"{100 * part['of_peak']:.0f}",
        stalls(part["stalls"]),
        str(part["spills"]),
    ]


def stalls(shares: dict[str, float]) -> str:
    """The reasons that cost 2% of a part's time or more, the largest first."""
    found = sorted(shares.items(), key=lambda pair: -pair[1])
    return ", ".join(f"{name} {share:.0%}" for name, share in found if share >= 0.02)


def _end(report: dict[str, Any]) -> str:
    return f"\n{report['obtained'].capitalize()}; nothing here was measured."


def _table(
    cells: list[list[str]], headers: tuple[str, ...], align: tuple[str, ...]
) -> str:
    from tabulate import tabulate

    return tabulate(cells, headers, disable_numparse=True, colalign=align)
