"""Holds the simulator against published times.

`python -m backends.tpu.profile.accuracy MEASURED.json [--cache DIR] [--only WORD]`.
Records with even numbers calibrate the constants, records with odd numbers test them.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from tabulate import tabulate

from backends.tpu.profile.dump import Dump, KernelText, dump
from backends.tpu.profile.simulate import Profile, simulate

_HERE = Path(__file__).parent / "cases"
_V5E_DISPATCH = 110e-6
_F32 = "f32[8,128]"


@dataclass(frozen=True)
class Case:
    """A record that a kernel of ours expresses; `kind` says what was timed.

    `block`: from the inputs' arrival in VMEM to the last vector instruction, in a shell
    of scalar bundles; `carrier`: the same without the shell. `kernel`: the whole
    kernel. `host`: with the host's dispatch on top.
    """

    record: str
    group: str
    file: str
    function: str
    args: tuple[str, ...]
    chip: str
    kind: str
    sharers: int = 1


def _block(record: str, function: str, *args: str) -> Case:
    return Case(record, "v4 block", "blocks", function, args, "v4", "block")


def _carrier(record: str, function: str, *args: str) -> Case:
    return Case(record, "v4 block", "blocks", function, args, "v4", "carrier")


def _guide(record: str, function: str, size: int) -> Case:
    shape = f"bf16[{size},{size}]"
    args = (shape, shape)
    return Case(record, "v5e guide", "matmuls", function, args, "v5e", "host")


def _panels(record: str, function: str) -> Case:
    args = ("bf16[1024,2048]", "bf16[2048,2048]")
    return Case(record, "v4 matmul", "matmuls", function, args, "v4", "kernel", 2)


_SQUARE = "f32[128,128]"
_TALL = "f32[512,128]"
CASES = (
    _block("gt001", "dot", "bf16[16,128]", "bf16[128,128]"),
    _block("gt002", "dot", "bf16[128,128]", "bf16[128,128]"),
    _block("gt003", "dot", "bf16[16,128]", "bf16[128,128]"),
    _block("gt006", "transpose", _SQUARE),
    _block("gt007", "transpose", _SQUARE),
    _block("gt009", "two_transposes", _SQUARE, _SQUARE),
    _block("gt010", "transpose", "bf16[128,128]"),
    _block("gt012", "sum_lanes", _F32),
    _block("gt014", "max_lanes", _F32),
    _block("gt017", "hillis_steele", _F32),
    _block("gt019", "concat_rows", _F32, _F32),
    _block("gt020", "concat_lanes", _F32, _F32),
    _block("gt021", "concat_rows", _F32, _F32),
    _block("gt022", "concat_lanes", _F32, _F32),
    _block("gt024", "concat_rows", "f32[9,128]", "f32[9,128]"),
    _block("gt026", "take_lanes", _F32, "s32[8,128]"),
    _block("gt028", "roll", _F32),
    _block("gt029", "scale_unrolled", _TALL),
    _block("gt031", "scale_loop_2", _TALL),
    _block("gt032", "scale_loop_4", _TALL),
    _block("gt033", "scale_loop_8", _TALL),
    _carrier("gt037", "hillis_steele", _F32),
    _carrier("gt038", "scan_sublanes", _F32),
    _panels("gt084", "panels_256"),
    _panels("gt088", "panels_512"),
    Case(
        "gt093",
        "v4 pipeline",
        "matmuls",
        "double_plus_one",
        ("f32[32768,128]",),
        "v4",
        "kernel",
    ),
    _guide("gt144", "guide_small", 1024),
    _guide("gt145", "guide_small", 4096),
    _guide("gt148", "guide_large", 4096),
    _guide("gt150", "guide_small_transposed", 1024),
    _guide("gt151", "guide_small_transposed", 4096),
    _guide("gt154", "guide_large_transposed", 4096),
    _guide("gt156", "guide_small_relu", 1024),
    _guide("gt157", "guide_small_relu", 4096),
    _guide("gt160", "guide_large_relu", 4096),
)
# What stands around a timed block, fitted to the even records: scalar bundles that run
# while the vector side still works, then a fence and the second reading of the clock.
SHELL_BUNDLES = 24
SHELL_FENCE = 16
CARRIER_FENCE = 11


def predicted(case: Case, profile: Profile) -> float:
    """Cycles of what was timed; see `Case`."""
    if case.kind not in ("block", "carrier"):
        return float(profile.cycles)
    waits = [m for m in profile.marks if m.event == "wait"]
    end = next(m for m in profile.marks if m.event.startswith("dma.vmem_to"))
    begin = max((w.cycle for w in waits if w.cycle <= end.cycle), default=0)
    if case.kind == "carrier":
        return float(end.vector - begin + CARRIER_FENCE)
    scalar = end.issued - begin + SHELL_BUNDLES
    return float(max(scalar, end.vector - begin) + SHELL_FENCE)


def measured(case: Case, record: dict[str, Any], clock: float) -> float:
    """The published time in cycles; the host's dispatch taken off."""
    if "measured_cycles" in record:
        return float(record["measured_cycles"])
    seconds = float(record["measured_us"]) * 1e-6
    return (seconds - (_V5E_DISPATCH if case.kind == "host" else 0.0)) * clock


def rows(
    records: dict[str, Any], cases: tuple[Case, ...], cache: Path | None, python: str
) -> Iterator[tuple[Case, float, float]]:
    """Each case with its measured and its predicted cycles."""
    for case in cases:
        if case.record not in records:
            continue
        profile = simulate(_dump(case, cache, python), case.chip, sharers=case.sharers)
        clock = profile.cycles / profile.seconds
        told = measured(case, records[case.record], clock)
        yield case, told, predicted(case, profile)


def _dump(case: Case, cache: Path | None, python: str) -> Dump:
    file = _HERE / f"{case.file}.py"
    parts = (file.read_text(), case.function, *case.args, case.chip, python)
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]
    path = cache / f"{case.function}-{key}.json" if cache else None
    if path and path.exists():
        held = json.loads(path.read_text())
        kernels = tuple(KernelText(**kernel) for kernel in held.pop("kernels"))
        return Dump(**held, kernels=kernels)
    made = dump(file, case.function, case.args, case.chip, python=python)
    if path:
        path.write_text(json.dumps(asdict(made)))
    return made


def main(arguments: list[str]) -> None:
    """Print one row a record, then each group's errors on the half kept for testing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("measured", type=Path)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--python", default=sys.executable)
    given = parser.parse_args(arguments)
    if given.cache:
        given.cache.mkdir(parents=True, exist_ok=True)
    records = {r["id"]: r for r in json.loads(given.measured.read_text())["records"]}
    cases = tuple(c for c in CASES if given.only in f"{c.group} {c.function}")
    table = []
    errors: dict[tuple[str, str], list[float]] = {}
    for case, told, guess in rows(records, cases, given.cache, given.python):
        error = guess / told - 1
        half = "test" if int(case.record[2:]) % 2 else "calibrate"
        errors.setdefault((case.group, half), []).append(abs(error))
        name = f"{case.function} {' '.join(case.args)}"
        table.append((case.record, case.group, half, name, told, guess, 100 * error))
    heads = ("record", "group", "half", "kernel", "measured", "estimate", "error %")
    print(tabulate(table, heads, floatfmt=".1f"))
    summary = [
        (*key, len(found), 100 * median(found), 100 * max(found))
        for key, found in sorted(errors.items())
    ]
    columns = ("group", "half", "n", "median %", "worst %")
    print("\n" + tabulate(summary, columns, floatfmt=".1f"))


if __name__ == "__main__":
    main(sys.argv[1:])
