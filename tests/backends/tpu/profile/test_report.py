"""What a device reaches at best, as JAX counts devices."""

from backends.chips import CHIPS
from backends.tpu.profile.report import peak


def test_a_device_of_tpu7x_is_half_of_its_chip() -> None:
    whole = CHIPS["tpu7x"]
    assert peak("tpu7x").flops * 2 == whole.bf16_flops.value
    assert peak("tpu7x").bandwidth * 2 == whole.hbm_bandwidth.value


def test_a_device_of_v5p_is_its_chip() -> None:
    assert peak("v5p").flops == CHIPS["tpu-v5p"].bf16_flops.value
