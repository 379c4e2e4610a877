"""Published times of kernels that we wrote anew, and what our simulator says of them.

The records are those of a JSON file of measurements: `records`, each with an `id` and
`measured_cycles` or `measured_us`. `cases/cases.json` says which kernel expresses which
record. Records with even numbers calibrate the constants, those with odd numbers test.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backends.tpu.profile.dumps import Source, kept_dump
from backends.tpu.profile.simulate import Mark, Profile, simulate

_CASES = Path(__file__).parent / "cases"
_V5E_DISPATCH = 110e-6
# What stands around a timed block, fitted to the even records: scalar bundles that run
# while the vector side still works, then a fence and the second reading of the clock.
SHELL_BUNDLES = 24
SHELL_FENCE = 16
CARRIER_FENCE = 11


@dataclass(frozen=True)
class Case:
    """A record that a kernel of ours expresses.

    `kind` says what was timed. `block`: from the inputs' arrival in VMEM to the last
    vector instruction, in a shell of scalar bundles; `carrier`: the same without the
    shell; `body`: the same without a fence. `load`, `store`: from a DMA's start until
    it was waited for. `kernel`: the whole kernel; `host`: with the host's dispatch on
    top. What the program with the arguments `less` takes is taken off, and the rest
    divided by `parts`.
    """

    record: str
    group: str
    file: str
    function: str
    args: tuple[str, ...]
    chip: str
    kind: str
    sharers: int = 1
    static: Mapping[str, Any] = field(default_factory=dict)
    less: Mapping[str, Any] | None = None
    parts: int = 1

    @property
    def name(self) -> str:
        """Function, arguments and options, for a table."""
        options = [f"{key}={value}" for key, value in self.static.items()]
        return " ".join((self.function, *self.args, *options))

    @property
    def half(self) -> str:
        """`calibrate` or `test`."""
        return "test" if int(self.record[2:]) % 2 else "calibrate"

    def source(self, static: Mapping[str, Any]) -> Source:
        """What to compile."""
        file = _CASES / f"{self.file}.py"
        return Source(file, self.function, self.args, self.chip, static=static)


def cases() -> tuple[Case, ...]:
    """All of `cases/cases.json`."""
    held = json.loads((_CASES / "cases.json").read_text())
    return tuple(Case(**{**each, "args": tuple(each["args"])}) for each in held)


def estimated(case: Case, cache: Path | None, python: str) -> float:
    """Cycles that the simulator gives for what was timed."""
    whole = _simulated(case, case.static, cache, python)
    if case.less is None:
        return predicted(case, whole) / case.parts
    less = _simulated(case, case.less, cache, python)
    return (predicted(case, whole) - predicted(case, less)) / case.parts


def _simulated(
    case: Case, static: Mapping[str, Any], cache: Path | None, python: str
) -> Profile:
    held = kept_dump(case.source(static), cache, python)
    return simulate(held, case.chip, sharers=case.sharers)


def predicted(case: Case, profile: Profile) -> float:
    """Cycles of what was timed; see `Case`."""
    if case.kind in ("kernel", "host"):
        return float(profile.cycles)
    marks = profile.marks
    if case.kind == "load":
        begin = next(m for m in marks if m.event.startswith("dma.hbm_to"))
        return float(_first_wait(marks, begin).cycle - begin.cycle)
    end = next(m for m in marks if m.event.startswith("dma.vmem_to"))
    if case.kind == "store":
        return float(_first_wait(marks, end).cycle - end.cycle)
    waits = [m for m in marks if m.event == "wait"]
    begin = max((w for w in waits if w.cycle <= end.cycle), key=lambda w: w.cycle)
    worked = end.vector - begin.cycle
    if case.kind == "block":
        scalar = end.issued - begin.cycle + SHELL_BUNDLES
        return float(max(scalar, worked) + SHELL_FENCE)
    return float(worked + (CARRIER_FENCE if case.kind == "carrier" else 0))


def _first_wait(marks: tuple[Mark, ...], start: Mark) -> Mark:
    after = marks[marks.index(start) :]
    return next(mark for mark in after if mark.event == "wait")


def measured(case: Case, record: dict[str, Any], clock: float) -> float:
    """The published time in cycles; the host's dispatch taken off."""
    if "measured_cycles" in record:
        return float(record["measured_cycles"])
    seconds = float(record["measured_us"]) * 1e-6
    return (seconds - (_V5E_DISPATCH if case.kind == "host" else 0.0)) * clock
