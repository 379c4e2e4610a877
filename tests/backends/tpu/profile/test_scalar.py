"""The scalar core: divisions, and checks on values that only a run would know."""

import pytest

from backends.tpu.profile.simulate import simulate
from ir.errors import UnknownScalar

_FRAME = """= control target key start
LH: loop header
= control target key end

     0   :  {{ %s1_s0 = inlined_call_operand.hbm [index: 0, kind: input] }}
{body}
 0x90   :  {{ %99 = vsyncpa [#allocation2], 1 }} /* exit bundle */
"""


def _numbered(text: str) -> str:
    """The bundles in `text` as a dump whose addresses follow each other."""
    lines = [line.split(":", 1) for line in text.strip().splitlines()]
    body = "\n".join(f" {i + 1:#x}   :{line[1]}" for i, line in enumerate(lines))
    return _FRAME.format(body=body).replace(" 0x90 ", f" {len(lines) + 1:#x} ")


@pytest.mark.parametrize(("rest", "taken"), [(1, True), (2, False)])
def test_a_division_gives_quotient_and_remainder(rest: int, taken: bool) -> None:
    text = f"""
    a : {{ %s2_s1 = smov 19 }}
    a : {{ %5 = sdivrem.u32 %s2_s1, 6 /* kDivAndRem */ }}
    a : {{ %s3_s2 = spop.drf %5 }}
    a : {{ %s4_s3 = spop.drf %5 }}
    a : {{ %p1_p0 = scmp.eq.s32.totalorder %s4_s3, {rest} }}
    a : {{ %p2_p1 = scmp.eq.s32.totalorder %s3_s2, 3 }}
    a : {{ %p3_p2 = pand %p1_p0, %p2_p1 }}
    a : {{ %9 = shalt.err (%p3_p2) }}
    """
    notes = simulate(_numbered(text), "v4").notes
    assert bool(notes) == taken


def test_a_check_on_what_only_a_run_knows_is_taken_to_pass() -> None:
    text = """
    a : { %s2_s1 = sld [smem:[#allocation1]] }
    a : { %p1_p0 = scmp.eq.s32.totalorder %s2_s1, 7 }
    a : { %9 = shalt.err (%p1_p0) }
    """
    assert simulate(_numbered(text), "v4").notes == ()


def test_what_a_check_tells_when_it_fails_is_not_stored() -> None:
    text = """
    a : { %s2_s1 = sld [smem:[#allocation1]] }
    a : { %p1_p0 = scmp.ne.s32.totalorder %s2_s1, 7 }
    a : { %8 = sst [smem:[#allocation4]] (%p1_p0), %s2_s1 }
    a : { %9 = shalt.err (%p1_p0) }
    """
    assert simulate(_numbered(text), "v5p").notes == ()
    unchecked = "\n".join(text.splitlines()[:-2])
    with pytest.raises(UnknownScalar):
        simulate(_numbered(unchecked), "v5p")


def test_the_cores_of_a_device_meet_and_exchange() -> None:
    text = """
    a : { %5 = vsyncadd.remote %s1_s0, 1 }
    a : { %6 = vwait.ge.trace [#allocation2], 1 }
    a : { %7 = dma.done.wait [#allocation3], 8 }
    """
    local = 310  # cycles of a copy on the chip, v4
    assert local < simulate(_numbered(text), "v4").cycles < local + 20
