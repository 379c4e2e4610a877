"""Loops of bundles written by hand: extrapolated exactly, and only where proven."""

from collections.abc import Sequence

from backends.tpu.profile.simulate import Profile, simulate

_HEAD = "= control target key start\nLH: loop header\n= control target key end\n\n"


def _dump(bundles: Sequence[str]) -> str:
    lines = [f"{i:#6x}   : {text}" for i, text in enumerate(bundles)]
    return _HEAD + "\n".join(lines) + " /* exit bundle: %hand = custom-call() */\n"


def _counted(trips: int, step: str = "{}") -> str:
    """A loop of `trips` iterations on v4: one delay slot behind the branch."""
    return _dump(
        [
            "{ %s1_s1 = smov 0 }",
            f"{step[:-1]} }} /* Start region 1 */",
            "{ %s2_s1 = sadd.s32 1, %s1_s1 }",
            f"{{ %p3_p0 = scmp.lt.s32.totalorder %s2_s1, {trips} }}",
            "{ %4 = sbr.rel (%p3_p0) target = $region1 }",
            "{}",
            "{}",
        ]
    )


def _both(text: str, scalars: dict[str, list[int]] | None = None) -> Profile:
    fast = simulate(text, "v4", scalars)
    slow = simulate(text, "v4", scalars, extrapolate=False)
    assert fast.cycles == slow.cycles
    assert fast.loops == slow.loops
    assert fast.bundles == slow.bundles
    assert sum(loop.cycles for loop in fast.loops) <= fast.cycles
    return fast


def test_a_counted_loop_is_extrapolated_to_its_last_iteration() -> None:
    short, long = _both(_counted(1_000)), _both(_counted(3_000))
    assert long.cycles - short.cycles == 2_000 * 5
    assert long.simulated < 0.1


def test_a_million_iterations_are_as_few_simulated_ones() -> None:
    found = simulate(_counted(1_000_000), "v4")
    assert found.bundles == 2 + 5 * 1_000_000
    assert found.simulated < 0.001


def test_loads_along_a_straight_line_are_followed_and_others_are_not() -> None:
    step = "{ %s5_s5 = sld [smem:[#argument0 + %s1_s1]] }"
    bend = "{ %p6_p1 = scmp.lt.s32.totalorder %s5_s5, 700 }"
    text = _dump(
        [
            "{ %s1_s1 = smov 0  ;;  %s9_s9 = inlined_call_operand.smem "
            "[shape: s32[900], index: 0, kind: input, shape index: {}] }",
            f"{step} /* Start region 1 */",
            bend,
            "{ %s2_s1 = sadd.s32 1, %s1_s1 }",
            "{ %7 = sbr.rel (!%p6_p1) target = $region2 }",
            "{}",
            "{ %p3_p0 = scmp.lt.s32.totalorder %s2_s1, 900 }",
            "{ %4 = sbr.rel (%p3_p0) target = $region1 }",
            "{}",
            "{} /* Start region 2 */",
        ]
    )
    straight = _both(text, {"argument0": list(range(900))})
    assert straight.simulated < 0.5
    # The path bends where a word that no earlier iteration showed says so.
    words = list(range(900))
    words[500] = 800
    bent = _both(text, {"argument0": words})
    assert bent.cycles < straight.cycles
