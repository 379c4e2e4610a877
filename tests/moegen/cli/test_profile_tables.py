"""What `moegen profile` prints of a report."""

from moegen.cli.profile_tables import _loops

LOOP = {
    "op": "rows",
    "bundles": (16, 32),
    "depth": 1,
    "rounds": 4,
    "cycles_per_round": 10.0,
    "share": 0.5,
    "mxu_busy": 0.0,
    "hbm_bytes_per_second": 1336e9,
    "binds": "HBM",
    "of_peak": 1.09,
    "stalls": {"dma": 0.96},
    "spills": 0,
}


def test_a_loop_beyond_the_peak_of_hbm_is_explained() -> None:
    told = "\n".join(_loops({"loops": [LOOP]}))
    assert "bytes count where their copies start" in told
    assert "0x10-0x1f" in told
    assert not list(_loops({"loops": []}))
