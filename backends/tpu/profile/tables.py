"""The simulator's figures as a table: `python -m backends.tpu.profile.tables`."""

import sys

from tabulate import tabulate

from backends.tpu.profile.dump import TOPOLOGIES
from backends.tpu.profile.latencies import Figure, latencies


def units_table() -> str:
    """One row a figure, one column a chip; `*` marks what hardware confirmed."""
    chips = {chip: latencies(chip).figures for chip in TOPOLOGIES}
    names = dict.fromkeys(name for figures in chips.values() for name in figures)
    rows = [
        [name, *(_cell(figures.get(name)) for figures in chips.values())]
        for name in names
    ]
    return tabulate(rows, ["figure", *chips], "github", disable_numparse=True)


def sources_table() -> str:
    """Where each figure comes from, chip by chip."""
    rows = [
        [chip, name, figure.source]
        for chip in TOPOLOGIES
        for name, figure in latencies(chip).figures.items()
    ]
    return tabulate(rows, ["chip", "figure", "source"], "github")


def _cell(figure: Figure | None) -> str:
    if figure is None:
        return ""
    return f"{figure.value:g}{'*' if figure.confirmed else ''}"


if __name__ == "__main__":
    print(units_table() if "--sources" not in sys.argv[1:] else sources_table())
