"""Schedules are told apart by what bundles issue, not by the names of registers."""

import re
from pathlib import Path

from backends.tpu.profile.dump import Dump, KernelText
from bench.compilers import schedule

_FILE = Path(__file__).parents[1] / "backends" / "tpu" / "profile" / "pipelined.txt"
_TEXT = _FILE.read_text()


def _schedule(text: str) -> tuple[str, ...]:
    return schedule(Dump("v4", (KernelText("kernel", text),)))


def test_one_entry_a_bundle() -> None:
    found = _schedule(_TEXT)
    assert len(found) == len(re.findall(r"^\s*(0x[0-9a-f]+|0) ", _TEXT, re.MULTILINE))
    assert any("dma.hbm_to_vmem" in issued for issued in found)
    assert any("vmul.f32" in issued for issued in found)


def test_renamed_registers_are_the_same_schedule() -> None:
    renamed = re.sub(r"%([svp])(\d+)_", r"%\g<1>9\g<2>_", _TEXT)
    assert renamed != _TEXT
    assert _schedule(renamed) == _schedule(_TEXT)


def test_another_instruction_is_another_schedule() -> None:
    assert _schedule(_TEXT.replace("vmul.f32", "vadd.f32", 1)) != _schedule(_TEXT)
