import jax
import pytest

from glam.train.efficiency import Peak, peak_of_devices
from glam.train.facts import Speed, told_metrics


def test_mfu_is_the_formula():
    speed = Speed(tokens=100, flops=6.0, peak=Peak(2400.0, 1, "assumed"))
    assert speed.of(0.5) == {"seconds": 0.5, "tokens_per_second": 200.0, "mfu": 0.5}


def test_an_unknown_peak_gives_no_mfu():
    peak = peak_of_devices(measure=False)
    assert peak.flops is None
    assert "was not measured" in peak.source
    assert Speed(100, 6.0, peak).of(0.5)["mfu"] is None


def test_a_cpu_is_measured_and_says_so():
    peak = peak_of_devices()
    assert peak.flops > 1e6
    assert peak.source.startswith("measured here: a float32 product of 1024")


class Device:
    def __init__(self, kind, coords):
        self.platform, self.device_kind, self.coords, self.id = "x", kind, coords, 0


def test_a_chip_of_the_table_and_cores_that_share_one(monkeypatch):
    two = [Device("TPU v4", (0, 0, 0)), Device("TPU v4", (0, 0, 0))]
    monkeypatch.setattr(jax, "devices", lambda: two)
    peak = peak_of_devices()
    assert (peak.flops, peak.chips) == (2.75e14, 1)
    assert "bfloat16 peak of tpu-v4" in peak.source
    monkeypatch.setattr(jax, "devices", lambda: [Device("TPU v99", (0, 0, 0))])
    assert peak_of_devices().flops is None


def test_load_becomes_ratio_and_dead_experts():
    told = told_metrics(
        {"load": [[2.0, 2.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]], "stop": False, "x": 1.5}
    )
    assert told == {"x": 1.5, "load_ratio": pytest.approx(2.0), "dead_experts": 2}
