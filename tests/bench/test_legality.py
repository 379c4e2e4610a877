"""What counts as the compiler's word on a draw, and what as none."""

from backends.tpu.compile import Kind, Outcome
from bench.legality import Drawn, missed, summary


def _drawn(verdict: str) -> Drawn:
    said = "" if verdict == "legal" else f"refused by {verdict}"
    return Drawn(
        "forward.grouped_rows.0", "glam", {"tile_rows": 64}, verdict, said, 1, 1
    )


_LEGAL = Outcome(Kind.LEGAL, stage="compile")
_REFUSED = Outcome(Kind.ILLEGAL, "lanes are broken", stage="lower")
_LATE = Outcome(Kind.TIMED_OUT, "it took too long", stage="compile")
_BROKEN = Outcome(Kind.ILLEGAL, "name 'gates' is not defined", stage="trace")


def test_only_what_libtpu_decided_counts() -> None:
    found = [
        (_drawn("legal"), _LEGAL),
        (_drawn("lanes"), _REFUSED),
        (_drawn("legal"), _REFUSED),
        (_drawn("lanes"), _LATE),
        # Neither caught nor missed: libtpu was never asked.
        (_drawn("lanes"), _BROKEN),
        (_drawn("legal"), _BROKEN),
    ]
    told = summary("tpu-v5e", found)
    assert (told["drawn"], told["legal"], told["refused by libtpu"]) == (6, 1, 2)
    assert (told["caught"], told["caught %"]) == (1, 50.0)
    assert (told["timed out"], told["failed in Python"]) == (1, 2)
    assert told["refused by the check alone"] == 0


def test_a_draw_that_libtpu_never_saw_is_told() -> None:
    found = [
        (_drawn("lanes"), _BROKEN),
        (_drawn("lanes"), _LEGAL),
        (_drawn("lanes"), _REFUSED),
    ]
    broken, refused = missed(found)
    assert broken.endswith("name 'gates' is not defined")
    assert refused.endswith("libtpu legal: refused by lanes")
