"""A run as one HTML page: its curves, how it went, its settings; nothing to fetch."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from statistics import median
from typing import Any, NoReturn

from glam.data.writing import atomic_file
from glam.train.curves import Lines, curves
from glam.train.folder import RECORD, SETTINGS
from glam.train.record import read
from ir.errors import BadArgument

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2733; background: #fff;
  max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1rem; margin: 0 0 .3rem; }
main { display: grid; grid-template-columns: repeat(auto-fit, minmax(26rem, 1fr));
  gap: 1.5rem; }
figure { margin: 0; } svg { width: 100%; height: auto; }
table { border-collapse: collapse; margin: 1rem 0; }
td, th { text-align: left; padding: .15rem 1.2rem .15rem 0; vertical-align: top;
  border-bottom: 1px solid #e3e8ee; font-variant-numeric: tabular-nums; }
"""


def write_page(run: Path, page: Path) -> None:
    """The page of the run in a folder, whole or not at all; raises `BadArgument`."""
    try:
        lines = read(run / RECORD)
        settings = json.loads((run / SETTINGS).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        _refuse(f"there is no run in {run}: it has no {Path(error.filename).name}")
    except ValueError as error:
        _refuse(f"the record of {run} cannot be read: {error}")
    if not all(isinstance(told, dict) for told in (*lines, settings)):
        _refuse(f"the record of {run} cannot be read: a line is no JSON object")
    if not any({"step", "loss"} <= line.keys() for line in lines):
        _refuse(f"the run in {run} has no step to show yet: train first")
    with atomic_file(page, overwrite=True) as file:
        file.write(html(run.name, lines, settings).encode())


def html(name: str, lines: Lines, settings: Mapping[str, Any]) -> str:
    """The page as text."""
    title = escape(f"Run {name}")
    figures = "".join(
        f"<figure><h2>{escape(curve.title)}</h2>{curve.svg}</figure>\n"
        for curve in curves(lines)
    )
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f"<title>{title}</title><style>{_STYLE}</style></head><body>\n"
        f"<h1>{title}</h1>\n{_table(_story(lines))}\n<main>\n{figures}</main>\n"
        f"<h1>Settings</h1>\n{_table(_flat(settings))}\n</body></html>\n"
    )


def _table(rows: Sequence[tuple[str, str]]) -> str:
    cells = "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>\n"
        for name, value in rows
    )
    return f"<table>\n{cells}</table>"


def _story(lines: Lines) -> list[tuple[str, str]]:
    """How the run went, in rows."""
    steps = [line for line in lines if "event" not in line]
    started = [line for line in lines if line.get("event") == "start"]
    held_out = [line for line in lines if line.get("event") == "validation"]
    back = [line for line in lines if line.get("event") == "rollback"]
    rows = [("steps", f"{steps[-1]['step']:,}" if steps else "none")]
    if steps:
        last = steps[-1]
        rate = median(line["tokens_per_second"] for line in steps)
        rows += [
            ("loss of the last step", _number(last["loss"])),
            ("tokens", f"{last['tokens']:,}"),
            ("tokens a second (median)", f"{rate:,.0f}"),
            ("time in steps", f"{sum(line['seconds'] for line in steps):,.1f} s"),
            ("steps skipped for a NaN or an Inf", str(last["skipped_in_all"])),
        ]
    if held_out:
        rows.append(("held-out loss", _number(held_out[-1]["loss"])))
    rows += [("rollback", f"{b['step']} to {b['to']}: {b['reason']}") for b in back]
    if started:
        rows += [
            (name, str(started[-1][name])) for name in _TOLD if name in started[-1]
        ]
    return rows


_TOLD = (
    "parameters",
    "activated",
    "flops_per_token",
    "mfu_formula",
    "peak_flops",
    "peak_source",
    "device",
    "devices",
    "processes",
    "versions",
)


def _number(value: float | None) -> str:
    return "NaN" if value is None else f"{value:.4f}"


def _flat(table: Mapping[str, Any], above: str = "") -> list[tuple[str, str]]:
    """Nested settings as dotted names."""
    rows: list[tuple[str, str]] = []
    for name, value in table.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{above}{name}.")
        else:
            rows.append((f"{above}{name}", str(value)))
    return rows


def _refuse(reason: str) -> NoReturn:
    raise BadArgument(reason=reason)
