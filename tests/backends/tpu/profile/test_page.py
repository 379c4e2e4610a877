"""The page: whole by itself, and its data exactly what the report says."""

import json
import re

from backends.tpu.profile.module import ModuleProfile, OpTime
from backends.tpu.profile.page import page
from backends.tpu.profile.report import binding, document
from backends.tpu.profile.simulate import Profile


def _profile(**changed: object) -> Profile:
    held: dict[str, object] = {
        "kernel": "k",
        "chip": "v5e",
        "cycles": 1000,
        "seconds": 1e-6,
        "mxu_busy": 0.1,
        "stalls": {"dma": 0},
        "hbm_read": 0,
        "hbm_written": 0,
        "bundles": 100,
        "spills": 0,
        "binds": "",
        "simulated": 1.0,
        "notes": (),
    }
    return Profile(**(held | changed))  # type: ignore[arg-type]


def _report() -> dict[str, object]:
    name = 'evil</script><b>"&'
    ops = (
        OpTime(name, "kernel", "f/k", 0, 1000, 1, "bundles", "A", _profile(mxu_busy=1)),
        OpTime("copy-done", "wait", "", 1000, 500, 2, "bytes", "C"),
    )
    whole = ModuleProfile("jit_f", "v5e", 1.5e9, ops, "0.0.50", "0.12.0")
    return document(whole, function="f.py:f", target="tpu-v5e", args="", routing="one")


def test_the_page_needs_no_network_and_holds_the_report() -> None:
    text = page(_report())
    assert not re.search(
        r"""(src|href)\s*=|@import|url\(|fetch\(|https?://(?!www\.w3)""", text
    )
    data = re.search(r'type="application/json">(.*?)</script>', text, re.DOTALL)
    assert data is not None
    assert json.loads(data[1]) == _report()


def test_the_report_adds_up() -> None:
    report = _report()
    ops = report["ops"]
    assert isinstance(ops, list)
    assert report["microseconds"] == 1.0
    assert [op["share"] for op in ops] == [2 / 3, 1 / 3]
    assert report["mxu_busy"] == 2 / 3
    assert ops[1]["binds"] is None
    assert str(report["obtained"]).startswith("estimated from the schedule compiled by")


def test_what_binds_is_what_is_nearest_its_best() -> None:
    assert binding(_profile(mxu_busy=0.9), 1e12) == ("MXU", 0.9)
    # 0.8 MB in a microsecond are 80% of 1 TB/s.
    assert binding(_profile(hbm_read=800_000), 1e12) == ("HBM", 0.8)
    name, share = binding(_profile(stalls={"dma": 900}, hbm_read=10_000), 1e12)
    assert (name, share) == ("HBM latency", 0.01)
    assert binding(_profile(bundles=950), 1e12) == ("issue of bundles", 0.95)
    assert binding(_profile(busy={"cross1": 700}), 1e12) == ("XLU", 0.7)
    assert binding(_profile(), 1e12)[0] == "latency"
