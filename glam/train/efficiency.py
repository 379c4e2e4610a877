"""Model FLOPs utilisation, with where each of its numbers comes from.

MFU = tokens a second x FLOPs a token / peak FLOP/s of all chips. FLOPs a token are
those of the model's own products, forward and backward, without recomputation.
"""

import time
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from backends.chips import CHIPS, NOT_KNOWN

FORMULA = "tokens/s x FLOPs/token / (chips x peak FLOP/s of a chip)"
_SIDE = 1024
_SECONDS = 0.3
# How JAX calls the chips of the table.
_KINDS = {
    "TPU v4": "tpu-v4",
    "TPU v5 lite": "tpu-v5e",
    "TPU v5": "tpu-v5p",
    "TPU v6 lite": "tpu-v6e",
    "TPU7x": "tpu7x",
    "NVIDIA H100 80GB HBM3": "gpu-h100",
    "NVIDIA H200": "gpu-h200",
}


@dataclass(frozen=True)
class Peak:
    """FLOP/s that `chips` chips can do at best, None where unknown, and how we know."""

    flops: float | None
    chips: int
    source: str

    def utilisation(self, flops_per_second: float) -> float | None:
        """MFU, from the FLOP/s that all chips did together; None where unknown."""
        return None if self.flops is None else flops_per_second / self.flops


def peak_of_devices(measure: bool = True) -> Peak:
    """The peak of all devices of the run.

    From the chip table where it has the chip, for bfloat16. No table knows a CPU: its
    peak is that of a large float32 product, measured here and now if `measure`, and
    taken for that of every process.
    """
    device = jax.devices()[0]
    if device.platform == "cpu":
        chips = jax.process_count()
        if not measure:
            return Peak(None, chips, "unknown: the peak of this CPU was not measured")
        told = f"measured here: a float32 product of {_SIDE} x {_SIDE} on the CPU"
        return Peak(chips * _measured_product(), chips, told)
    # Cores of one chip are devices of their own on some TPUs.
    chips = len({str(getattr(d, "coords", d.id)) for d in jax.devices()})
    name = _KINDS.get(device.device_kind)
    figure = CHIPS[name].bf16_flops if name else NOT_KNOWN
    if figure.value is None:
        return Peak(None, chips, f"unknown: no table has {device.device_kind}")
    told = f"bfloat16 peak of {name}: {figure.source}"
    return Peak(chips * figure.value, chips, told)


def _measured_product() -> float:
    """FLOP/s of the fastest of many large products."""
    a = jnp.ones((_SIDE, _SIDE), jnp.float32)
    product: Any = jax.jit(jnp.matmul)
    product(a, a).block_until_ready()
    end, best = time.perf_counter() + _SECONDS, float("inf")
    while True:
        start = time.perf_counter()
        product(a, a).block_until_ready()
        now = time.perf_counter()
        best = min(best, now - start)
        if now > end:
            return 2 * _SIDE**3 / best
