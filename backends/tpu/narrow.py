"""How a TPU's kernels multiply by matrices of one byte an element."""

from collections.abc import Mapping
from typing import Literal

from backends.chips import Chip
from ir.narrow import is_narrow

Narrow = Literal["", "direct", "by chunk", "by block"]

# Elements of int8 that a chip converts in a second where that takes longer than a
# product of a chunk: libtpu 0.0.42 spends 5,200 cycles of each core of a v4 on a block
# of [1024, 768], by its own schedule. Other chips have an instruction for it, and
# convert while they multiply.
SLOW: Mapping[str, float] = {"tpu-v4": 2 * 1024 * 768 / 5200 * 1.05e9}


def narrow_way(stored: str, compute: str, chip: Chip) -> Narrow:
    """How products read matrices of the dtype `stored`; "" for those of two bytes.

    "direct": the matrix unit takes fp8 beside bfloat16 and multiplies exactly, because
    every finite float8_e4m3fn is a bfloat16. "by chunk": each product converts them.
    "by block": every block is converted once, into memory of the kernel's own, where
    converting is dear. int8 becomes `compute` exactly, too.
    """
    if not is_narrow(stored):
        return ""
    if stored != "int8" and compute == "bfloat16":
        return "direct"
    return "by block" if chip.name in SLOW else "by chunk"
