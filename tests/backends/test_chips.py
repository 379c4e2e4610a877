from dataclasses import FrozenInstanceError

import pytest

from backends.chips import CHIPS
from backends.targets import TARGETS


def test_every_figure_has_a_source():
    for chip in CHIPS.values():
        assert len(chip.figures) == 8
        for figure in chip.figures.values():
            assert (figure.value is None) == (figure.source == "unknown")
            assert figure.value is None or figure.value > 0


def test_names_are_their_own_keys():
    assert all(chip.name == name for name, chip in CHIPS.items())


def test_every_target_is_a_chip():
    assert set(TARGETS) <= set(CHIPS)


def test_rows_a_weight_must_meet_before_compute_binds():
    """FLOPs to a byte, as in the published arithmetic of these chips."""
    ridge = {
        name: round(chip.bf16_flops.value / chip.hbm_bandwidth.value)
        for name, chip in CHIPS.items()
        if chip.kind != "cpu"
    }
    assert ridge["tpu-v4"] == 224
    assert ridge["tpu-v5e"] == 240
    assert ridge["tpu-v5p"] == 166
    assert ridge["tpu-v6e"] == 560
    assert ridge["tpu7x"] == 312
    assert ridge["gpu-h100"] == 295


def test_a_chip_is_frozen():
    with pytest.raises(FrozenInstanceError):
        CHIPS["tpu-v4"].name = "other"
