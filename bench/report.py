"""Outcomes as tables for people and as a document for machines."""

from collections.abc import Sequence
from typing import Any

from bench.result import Outcome, Row
from bench.timing import Spread, spread

ALIGN = ["left", "left", *["right"] * 4, "left", "right"]


def table(outcome: Outcome) -> str:
    """One suite: a heading, its rows, and why it stopped if it did."""
    parts = [f"{outcome.suite}: {outcome.title}"]
    if outcome.rows:
        parts.append(_grid(outcome.rows))
        parts += _routing_lines(outcome.rows)
    if outcome.skipped:
        parts.append(f"skipped: {outcome.skipped}")
    if outcome.failed:
        parts.append(f"FAILED: {outcome.failed}")
    return "\n".join(parts)


def _grid(rows: Sequence[Row]) -> str:
    from tabulate import tabulate

    units = {row.unit for row in rows}
    shared = units.pop() if len(units) == 1 else None
    named = f" {shared}" if shared else ""
    headers = [
        "case",
        "dtype",
        f"ours{named}",
        f"theirs{named}",
        "ratio (quartiles)",
        "bar",
        "met?",
        "samples",
    ]
    cells = [_cells(row, shared is None) for row in rows]
    return tabulate(cells, headers, disable_numparse=True, colalign=ALIGN)


def _cells(row: Row, with_unit: bool) -> list[str]:
    unit = f" {row.unit}" if with_unit and row.unit else ""
    own = row.bar is not None and row.bar.of == "ours"
    return [
        row.case,
        row.dtype,
        f"{figure(spread(row.ours).median)}{unit}",
        f"{figure(spread(row.theirs).median)}{unit}" if row.theirs else "-",
        _ratio(row.ratio, len(row.ours)),
        f"{row.bar}{f' {row.unit}' if own else ''}" if row.bar else "-",
        {True: "yes", False: "NO", None: "-"}[row.met],
        str(len(row.ours)),
    ]


def _ratio(ratio: Spread | None, samples: int) -> str:
    if ratio is None:
        return "-"
    if samples == 1:
        return f"{ratio.median:.3g}"
    return f"{ratio.median:.2f} ({ratio.low:.2f}-{ratio.high:.2f})"


def figure(value: float) -> str:
    """Three significant digits, and whole numbers as they are."""
    if value >= 100 or value == int(value):
        return f"{value:.0f}"
    return f"{value:.3g}"


def _routing_lines(rows: Sequence[Row]) -> list[str]:
    """The routing behind the rows, read from the op, each told once."""
    lines: dict[str, None] = {}
    for row in rows:
        if "rows" in row.facts:
            facts = {k: v for k, v in row.facts.items() if isinstance(v, int)}
            told = ", ".join(f"{name} {value}" for name, value in facts.items())
            lines[f"  {row.case}, {row.dtype}: {told}"] = None
    return list(lines)


def closing(outcomes: Sequence[Outcome], machine: dict[str, Any]) -> str:
    """The machine, and how many bars were met."""
    bars = [row.met for o in outcomes for row in o.rows if row.met is not None]
    versions = ", ".join(
        f"{name} {machine[name]}"
        for name in ("python", "jax", "jaxlib", "numpy", "torch", "transformers")
        if machine.get(name)
    )
    sizes = ", ".join(f"{name} {size}" for name, size in machine["sizes"].items())
    load = machine["load_average"][0]
    return "\n".join(
        [
            f"{machine['provenance']}: {machine['cpu']}, {machine['cores']} cores, "
            f"target {machine['target']}, load {load}; {versions}",
            f"sizes: {sizes}; ratios are ours / theirs, medians over paired runs",
            f"{sum(bars)} of {len(bars)} bars met",
        ]
    )


def document(outcomes: Sequence[Outcome], machine: dict[str, Any]) -> dict[str, Any]:
    """Everything, raw samples included, ready for JSON."""
    return {
        "fingerprint": machine,
        "suites": {
            outcome.suite: {
                "title": outcome.title,
                "skipped": outcome.skipped or None,
                "failed": outcome.failed or None,
                "rows": [_record(row) for row in outcome.rows],
            }
            for outcome in outcomes
        },
    }


def _record(row: Row) -> dict[str, Any]:
    ratio = row.ratio
    return {
        "case": row.case,
        "dtype": row.dtype or None,
        "unit": row.unit or None,
        "ours": spread(row.ours).median,
        "theirs": spread(row.theirs).median if row.theirs else None,
        "against": row.against or None,
        "ratio": ratio and {"q1": ratio.low, "median": ratio.median, "q3": ratio.high},
        "bar": str(row.bar) if row.bar else None,
        "bar_of": row.bar.of if row.bar else None,
        "met": row.met,
        "samples": {"ours": row.ours, "theirs": row.theirs},
        "facts": row.facts,
    }
