"""One kernel's dump: a published time, the same number every time, no cut accepted."""

from pathlib import Path

import pytest

from backends.tpu.profile.measured import cases, predicted
from backends.tpu.profile.simulate import simulate
from ir.errors import MoegenError

_TEXT = Path(__file__).with_name("max_lanes.txt").read_text()
# Published for TPU v4: 100 cycles for the maximum over lanes of f32[8, 128].
_MEASURED = 100


def test_it_meets_the_published_time() -> None:
    case = next(each for each in cases() if each.record == "gt014")
    told = predicted(case, simulate(_TEXT, "v4"))
    assert abs(told / _MEASURED - 1) <= 0.02


def test_twenty_runs_agree_bit_for_bit() -> None:
    first = simulate(_TEXT, "v4")
    assert all(simulate(_TEXT, "v4") == first for _ in range(20))


def test_no_truncated_dump_gives_a_number() -> None:
    whole = len(_TEXT.rstrip())
    last = _TEXT.rstrip().rfind("\n")
    for index in range(500):
        cut = 1 + index * (last - 1) // 500
        assert cut < whole
        with pytest.raises(MoegenError):
            simulate(_TEXT[:cut], "v4")
