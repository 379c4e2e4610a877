"""How long each opcode takes on each chip: the table `units.json`, with its sources."""

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ir.errors import UnknownChip, UnknownInstruction, Where

_TABLE = Path(__file__).with_name("units.json")
_NUMBERED = re.compile(r"(?:mxu|xlu)(\d)")
# Units that a core has several of; the opcode says which one is meant.
_SEVERAL = ("push", "multiply", "cross", "transposed")


@dataclass(frozen=True)
class Figure:
    """A number, where it comes from, and whether hardware confirmed it."""

    value: float
    source: str
    confirmed: bool


@dataclass(frozen=True)
class Timing:
    """An opcode's unit, cycles between two of its issues, and cycles to its result."""

    kind: str
    unit: str
    interval: int
    latency: int
    number: int


@dataclass(frozen=True)
class Latencies:
    """The figures of one chip. Units: cycles, unless a figure's name says otherwise."""

    chip: str
    figures: dict[str, Figure]

    def __getitem__(self, name: str) -> float:
        return self.figures[name].value

    def cycles(self, name: str | None) -> int:
        """A figure as whole cycles; zero where there is none."""
        return int(self[name]) if name else 0

    def timing(self, opcode: str, where: Where, attributes: str = "") -> Timing:
        """The times of an opcode; UnknownInstruction where the table has none.

        The unit's number stands in the opcode, or behind it: `.mrb [4].mxu1`.
        """
        family = _family(opcode)
        if family is None:
            raise UnknownInstruction(
                where, kind="instruction", name=opcode, chip=self.chip
            )
        found = _NUMBERED.search(opcode) or _NUMBERED.search(attributes)
        number = int(found[1]) if found else 0
        unit = family["unit"] or ""
        latency = family["latency"]
        if unit == "cross" and number >= 2 and f"{latency}_third" in self.figures:
            latency = f"{latency}_third"
        return Timing(
            kind=family["kind"],
            unit=f"{unit}{number}" if unit in _SEVERAL else unit,
            interval=self.cycles(family["interval"]),
            latency=self.cycles(latency),
            number=number,
        )


@cache
def latencies(chip: str) -> Latencies:
    """The figures of `v4`, `v5e`, `v5p`, `v6e` or `tpu7x`."""
    chips = _table()["chips"]
    if chip not in chips:
        raise UnknownChip(chip=chip, chips=", ".join(chips))
    figures = {name: Figure(**held) for name, held in chips[chip].items()}
    return Latencies(chip, figures)


@cache
def _table() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(_TABLE.read_text())
    return table


@cache
def _family(opcode: str) -> dict[str, Any] | None:
    for family in _table()["families"]:
        if re.fullmatch(family["opcode"], opcode):
            held: dict[str, Any] = family
            return held
    return None
