"""Cycles by loop: each loop its own, none lost, none counted twice."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from backends.tpu.profile.cores import merged
from backends.tpu.profile.loop_times import readable
from backends.tpu.profile.module import ModuleProfile, OpTime
from backends.tpu.profile.nests import Nest, Nests
from backends.tpu.profile.report import document
from backends.tpu.profile.simulate import Profile, simulate

_HEAD = "= control target key start\nLH: loop header\n= control target key end\n\n"
_PIPELINED = Path(__file__).with_name("pipelined.txt").read_text()
_OUTER, _INNER = 200, 30


def _nested() -> str:
    """`_OUTER` rounds of three bundles around `_INNER` rounds of five."""
    bundles = [
        "{ %s1_s1 = smov 0 }",
        "{ %s5_s2 = smov 0 } /* Start region 1 */",
        "{ %v8_v8 = vld [vmem:[#allocation0]] } /* Start region 2 */",
        "{ %s6_s2 = sadd.s32 1, %s5_s2 }",
        f"{{ %p7_p1 = scmp.lt.s32.totalorder %s6_s2, {_INNER} }}",
        "{ %9 = sbr.rel (%p7_p1) target = $region2 }",
        "{}",
        "{ %s2_s1 = sadd.s32 1, %s1_s1 }",
        f"{{ %p3_p0 = scmp.lt.s32.totalorder %s2_s1, {_OUTER} }}",
        "{ %4 = sbr.rel (%p3_p0) target = $region1 }",
        "{}",
        "{}",
    ]
    return _dump(bundles)


def _dump(bundles: Sequence[str]) -> str:
    lines = [f"{i:#6x}   : {text}" for i, text in enumerate(bundles)]
    return _HEAD + "\n".join(lines) + " /* exit bundle: %hand = custom-call() */\n"


@pytest.mark.parametrize("extrapolate", [True, False])
def test_each_loop_counts_its_own_cycles(extrapolate: bool) -> None:
    found = simulate(_nested(), "v4", extrapolate=extrapolate)
    outer, inner = found.loops
    assert (outer.begin, outer.end, outer.depth, outer.around) == (1, 11, 1, -1)
    assert (inner.begin, inner.end, inner.depth, inner.around) == (2, 7, 2, 0)
    assert (outer.rounds, inner.rounds) == (_OUTER, _OUTER * _INNER)
    assert inner.bundles == 5 * _OUTER * _INNER
    assert outer.bundles == 5 * _OUTER
    assert inner.cycles >= inner.bundles
    # What is left: the bundle in front, the one behind, and the last ones' latency.
    rest = found.cycles - inner.cycles - outer.cycles
    assert 2 <= rest <= 40
    # Loads have a unit, and none of them is outside of the inner loop.
    assert sum(inner.busy.values()) == sum(found.busy.values())


def test_bytes_and_waits_belong_to_the_loop_that_copies() -> None:
    fast = simulate(_PIPELINED, "v4")
    slow = simulate(_PIPELINED, "v4", extrapolate=False)
    assert fast.loops == slow.loops
    (loop,) = fast.loops
    assert loop.hbm_bytes == fast.hbm_bytes > 0
    assert loop.stalls["dma"] == fast.stalls["dma"] > 0
    assert loop.cycles > 0.9 * fast.cycles


def test_loops_that_share_a_head_are_one() -> None:
    nests = Nests([(4, 9), (2, 12), (4, 7)], 20)
    assert nests.loops == [Nest(2, 12, 1, -1), Nest(4, 9, 2, 0)]
    assert [nests.innermost(place) for place in (1, 3, 8, 9, 12)] == [-1, 0, 1, 0, -1]


def test_two_cores_bring_the_bytes_of_both() -> None:
    core = simulate(_PIPELINED, "v4")
    (loop,) = merged([core, core]).loops
    assert loop.hbm_bytes == 2 * core.loops[0].hbm_bytes
    assert loop.cycles == core.loops[0].cycles


def test_a_report_lists_the_hottest_loops_with_their_bundles() -> None:
    report = document(_module(simulate(_nested(), "v4")))
    inner, outer = report["loops"]
    assert (inner["depth"], outer["depth"]) == (2, 1)
    assert inner["rounds"] == 3 * _OUTER * _INNER
    assert inner["text"][0] == "   0x2   : { v8 = vld [vmem:[#allocation0]] }"
    assert any("a loop inside" in line for line in outer["text"])
    assert inner["share"] + outer["share"] == pytest.approx(1, abs=0.01)
    assert inner["us"] == pytest.approx(inner["cycles"] / 1.05e9 * 1e6)


def _module(profile: Profile) -> ModuleProfile:
    cycles = 3 * profile.cycles
    op = OpTime("k", "kernel", "f/k", 0, cycles, 3, "bundles", "A", profile)
    return ModuleProfile("jit_f", "v4", 1.05e9, (op,), "0.0.50", "0.12.0")


def test_a_bundle_is_shown_without_comments_and_virtual_names() -> None:
    line = (
        "  0x1 LB: > { %s15_s7 = sand.u32 63, %s402_s6 /* smod */ } /* Start region 29"
    )
    assert readable(line) == "  0x1 LB: > { s7 = sand.u32 63, s6 }"
