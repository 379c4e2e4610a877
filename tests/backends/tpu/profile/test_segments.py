"""Where a branch's delay slots end, where their number is fixed and where it varies."""

from backends.tpu.profile.bundles import Program, read_bundles
from backends.tpu.profile.segments import Segments

_HEAD = "= control target key start\nLH: loop header\n= control target key end\n\n"


def _program(bundles: list[str]) -> Program:
    lines = [f"{i:#6x}   : {text}" for i, text in enumerate(bundles)]
    text = _HEAD + "\n".join(lines) + " /* exit bundle: %hand = copy() */\n"
    return read_bundles(text, "hand")


_ADD = "{ %s1_s1 = sadd.s32 1, %s1_s1 }"
_BRANCH = "{ %2 = sbr.rel (%p1_p0) target = $region9 }"
_WAIT = "{ %3 = dma.done.wait [#allocation1], 32 }"


def _ends(bundles: list[str], least: int, most: int) -> list[int]:
    program = _program(bundles)
    return [end for *_, end in Segments(program, least, most).at(0).branches]


def test_a_fixed_number_of_slots() -> None:
    text = [_BRANCH, *[_ADD] * 6, "{} /* Start region 9 */"]
    assert _ends(text, 4, 4) == [5]


def test_slots_end_before_a_region_a_wait_and_another_branch() -> None:
    region = "{} /* Start region 8 */"
    for stop in (region, _WAIT, _BRANCH):
        text = [_BRANCH, _ADD, _ADD, stop, *[_ADD] * 6, "{} /* Start region 9 */"]
        assert _ends(text, 1, 6) == [3]


def test_slots_of_a_loop_end_where_its_bundles_do() -> None:
    text = [
        "> { %s1_s1 = smov 0 } /* Start region 9 */",
        "> { %2 = sbr.rel (%p1_p0) target = $region9 }",
        "{}",
        "> { %s4_s4 = smov 1 }",
        _ADD,
        _ADD,
        _ADD,
    ]
    assert _ends(text, 1, 6) == [4]
