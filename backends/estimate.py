"""What one kernel asks of a chip under its schedule: an estimate, not measured."""

from dataclasses import dataclass

from backends.chips import Chip

PRODUCTS, MEMORY = "products", "HBM"


@dataclass(frozen=True)
class Estimate:
    """One kernel under uniform routing, on one device.

    `flops` are those that are done, padding included; `hbm_bytes` those that the
    kernel's blocks move, with what XLA moves to prepare its operands. The bytes on the
    chip are the most at a time. `grid` are the steps along each axis, of which
    `parallel_steps` can be shared between cores. `seconds` is the roofline: the time of
    what `bound` names, at the chip's peak. What is unknown, or not a kernel's, is None.

    `name` is FUNCTION.KIND.NUMBER, under which a profile of the compiled kernel can
    stand beside it.
    """

    name: str
    flops: int
    hbm_bytes: int
    seconds: float
    bound: str
    on_chip_bytes: int | None = None
    scalar_bytes: int | None = None
    grid: tuple[int, ...] = ()
    parallel_steps: int | None = None


def roofline(
    flops: float, hbm_bytes: float, chip: Chip, share: float = 1.0
) -> tuple[float, str]:
    """Seconds at the peak of a share of a chip, and what binds; FLOPs of bfloat16."""
    peak, bandwidth = chip.bf16_flops.value, chip.hbm_bandwidth.value
    assert peak is not None
    assert bandwidth is not None
    times = {PRODUCTS: flops / peak, MEMORY: hbm_bytes / bandwidth}
    bound = max(times, key=lambda name: times[name])
    return times[bound] / share, bound
