"""What a kernel keeps on a TPU's chip, buffer by buffer, and how large each is there.

Memory is laid out in tiles of 8 sublanes of 128 lanes of 32 bits; narrower types share
a sublane. A window is a block of an operand or a result in memory: while one block is
worked on, the next one is fetched, or the last one written, so it is held twice.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Literal

from backends.tpu.storage import BYTES

Memory = Literal["vmem", "smem"]

LANES = 128
SUBLANES = 8
WORD = 4  # bytes
SMEM_LINE = 512  # bytes; arrays of scalars are whole lines
REGISTER = SUBLANES * LANES * WORD  # bytes of a vector register


@dataclass(frozen=True)
class Buffer:
    """One buffer of a kernel.

    `shape` is a block's, in elements of `dtype`. A window is a block of an array of
    shape `array`, which is () for what is the kernel's own; rows of an array of shape
    `source` are copied to a buffer of its own one by one. `fields` names, axis by axis,
    the field of the schedule that set the size, or "". The kernel holds a window that
    never moves `once`; libtpu may do so with one that is `still` on its core.
    """

    what: str
    memory: Memory
    shape: tuple[int, ...]
    dtype: str
    array: tuple[int, ...] = ()
    fields: tuple[str, ...] = ()
    source: tuple[int, ...] = ()
    once: bool = False
    still: bool = False

    @property
    def copies(self) -> int:
        return 2 if self.array and not self.once else 1

    @property
    def bytes(self) -> int:
        """Bytes on the chip, padding and both copies included."""
        size = padded_bytes(self.shape, self.dtype, self.memory)
        return self.copies * size

    @property
    def array_bytes(self) -> int:
        """Bytes of the whole array in memory; 0 for what is the kernel's own."""
        return padded_bytes(self.array, self.dtype, "vmem") if self.array else 0

    def __str__(self) -> str:
        times = f"{self.copies} x " if self.copies > 1 else ""
        sizes = ", ".join(map(str, self.shape))
        return f"{self.what}, {times}{self.dtype}[{sizes}], {readable(self.bytes)}"


def padded_bytes(shape: tuple[int, ...], dtype: str, memory: Memory) -> int:
    """Bytes of an array on the chip: whole lanes, and whole sublanes of words.

    Few rows take a tile of as many sublanes as the next power of two.
    """
    size = BYTES[dtype]
    if memory == "smem":
        line = whole(prod(shape[-1:]), LANES)
        return whole(prod(shape[:-1]) * line * size, SMEM_LINE)
    *outer, rows, lanes = (1, 1, *shape)
    packed = -(-rows * size // WORD)  # sublanes
    tile = min(SUBLANES, 1 << (packed - 1).bit_length())
    return prod(outer) * whole(packed, tile) * whole(lanes, LANES) * WORD


def whole(count: int, unit: int) -> int:
    """The least multiple of `unit` that is no less than `count`."""
    return -(-count // unit) * unit


def total(buffers: Iterable[Buffer], memory: Memory) -> int:
    return sum(buffer.bytes for buffer in buffers if buffer.memory == memory)


def largest(buffers: Iterable[Buffer], memory: Memory) -> Buffer:
    """The buffer that takes most of a memory; the first of equals."""
    return max((b for b in buffers if b.memory == memory), key=lambda b: b.bytes)


def readable(count: int) -> str:
    """Bytes in the largest unit that leaves at least one of it."""
    for unit, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if count >= unit:
            return f"{count / unit:.4g} {name}"
    return f"{count} bytes"
