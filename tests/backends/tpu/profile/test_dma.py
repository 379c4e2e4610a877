"""Copies in flight share the memory: arithmetic by hand on the chip's own figures."""

import pytest

from backends.tpu.profile.dma import Dma
from backends.tpu.profile.latencies import latencies

_TABLE = latencies("v4")
_KIB = 1024 // _TABLE.cycles("granule_bytes")


def _start(dma: Dma, way: str, at: int, kib: int, flag: int) -> None:
    dma.start(f"dma.{way}", at, (0, kib * _KIB, 0, flag), line=1)


def test_one_read_takes_its_latency_and_its_bytes() -> None:
    dma = Dma(_TABLE)
    _start(dma, "hbm_to_vmem", 100, 1024, flag=1)
    told = 100 + _TABLE["dma_in"] + 1024 * _TABLE["cycles_per_kib"]
    assert dma.wait(1, 1024 * _KIB, 100) == pytest.approx(told, abs=1)


def test_two_reads_at_once_take_twice_the_bytes() -> None:
    dma = Dma(_TABLE)
    _start(dma, "hbm_to_vmem", 0, 512, flag=1)
    _start(dma, "hbm_to_vmem", 0, 512, flag=2)
    told = _TABLE["dma_in"] + 1024 * _TABLE["cycles_per_kib"]
    for flag in (1, 2):
        assert dma.wait(flag, 512 * _KIB, 0) == pytest.approx(told, abs=1)


def test_two_cores_halve_the_rate() -> None:
    dma = Dma(_TABLE, sharers=2)
    _start(dma, "hbm_to_vmem", 0, 1024, flag=1)
    told = _TABLE["dma_in"] + 2 * 1024 * _TABLE["cycles_per_kib"]
    assert dma.wait(1, 1024 * _KIB, 0) == pytest.approx(told, abs=1)


def test_reads_and_writes_never_exceed_what_either_or_both_can_carry() -> None:
    for chip in ("v4", "v5e", "v5p", "v6e", "tpu7x"):
        table = latencies(chip)
        dma = Dma(table)
        for reads, writes in ((1, 0), (0, 1), (1, 1), (3, 1), (1, 3)):
            flow = dma._flow(reads, writes)
            inward, outward = flow["in"] * bool(reads), flow["out"] * bool(writes)
            assert inward <= 1024 / table["cycles_per_kib"] * (1 + 1e-9)
            assert outward <= 1024 / table["write_cycles_per_kib"] * (1 + 1e-9)
            if reads and writes:
                both = 1024 / table["mixed_cycles_per_kib"]
                assert inward + outward <= both * (1 + 1e-9)
