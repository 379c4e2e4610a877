"""`moegen targets`: the chips, and which of them this version can compile for."""

import argparse
from typing import Any

from moegen.cli.program import DONE, Subparsers, add_command, print_json

# Heading, the figure's name, what one unit of the column is worth, decimals.
_COLUMNS = (
    ("cores", "cores", 1.0, 0),
    ("bf16 TFLOP/s", "bf16_flops", 1e12, 0),
    ("HBM GB/s", "hbm_bandwidth", 1e9, 0),
    ("HBM GB", "hbm_bytes", 1e9, 0),
    ("on-chip MiB a core", "on_chip_bytes", 2.0**20, 2),
    ("link GB/s one way", "link_bandwidth", 1e9, 0),
    ("clock GHz", "clock", 1e9, 2),
)


def register(subparsers: Subparsers) -> None:
    """Add the command `targets`."""
    parser = add_command(
        subparsers,
        "targets",
        "list the chips, their peak figures and the sources of those",
        "moegen targets --json",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def run(arguments: argparse.Namespace) -> int:
    """Print the table of chips."""
    from backends.chips import CHIPS
    from backends.targets import TARGETS

    ready = [name for name in CHIPS if name in TARGETS]
    later = [name for name in CHIPS if name not in TARGETS]
    if arguments.json:
        chips = {name: _document(chip, name in ready) for name, chip in CHIPS.items()}
        print_json({"targets": list(TARGETS), "not_yet": later, "chips": chips})
        return DONE
    from tabulate import tabulate

    rows = [_row(chip, name in ready) for name, chip in CHIPS.items()]
    headers = ["name", "kind", *(column[0] for column in _COLUMNS), "compiles"]
    print(tabulate(rows, headers, disable_numparse=True, colalign=_ALIGN))
    can, cannot = ", ".join(ready), ", ".join(later)
    print(f"\nThis version compiles for {can}; not yet for {cannot}.")
    print("Peaks of one chip, none of them measured here; - is unknown. Sources:")
    for source, users in _sources(CHIPS).items():
        print(f"  {source}: {', '.join(users)}")
    return DONE


_ALIGN = ["left", "left", *["right"] * len(_COLUMNS), "left"]


def _row(chip: Any, ready: bool) -> list[str]:
    figures = chip.figures
    cells = [
        "-" if figures[f].value is None else f"{figures[f].value / unit:.{digits}f}"
        for _, f, unit, digits in _COLUMNS
    ]
    return [chip.name, chip.kind, *cells, "yes" if ready else "not yet"]


def _sources(chips: Any) -> dict[str, list[str]]:
    """For each source, the columns and chips that rest on it."""
    found: dict[str, dict[str, list[str]]] = {}
    for chip in chips.values():
        for heading, name, *_ in _COLUMNS:
            figure = chip.figures[name]
            if figure.value is not None:
                columns = found.setdefault(figure.source, {})
                columns.setdefault(heading, []).append(chip.name)
    return {source: _users(columns) for source, columns in found.items()}


def _users(columns: dict[str, list[str]]) -> list[str]:
    return [f"{heading} ({', '.join(names)})" for heading, names in columns.items()]


def _document(chip: Any, ready: bool) -> dict[str, Any]:
    figures = {
        name: {"value": figure.value, "source": figure.source}
        for name, figure in chip.figures.items()
    }
    return {
        "kind": chip.kind,
        "title": chip.title,
        "topology": chip.topology,
        "compiles": ready,
        **figures,
    }
