"""The chips: what each can do at its best, and where every figure comes from.

Peaks, not what a program reaches. A figure that nobody vouches for is `None`, never a
guess. Figures are those of one whole chip, on-chip memory those of one core.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

_CLOUD = "Google Cloud's TPU pages, as in jax/_src/tpu_info.py"
_INFO = "jax/_src/tpu_info.py"
_BOOK = "the JAX scaling book, chapter on TPUs"
_DATASHEET = "NVIDIA's data sheet"
_FROM_PEAK = "derived from the peak and the number of multipliers"
_UNKNOWN = "unknown"
_LIBTPU = "libtpu 0.0.42 and 0.0.50 compile products of bfloat16 by it"

_MIB = 2**20


@dataclass(frozen=True)
class Figure:
    """A number and its source; `None` where it is not known."""

    value: float | None
    source: str


NOT_KNOWN = Figure(None, _UNKNOWN)


@dataclass(frozen=True)
class Chip:
    """One chip.

    Units: FLOP/s, bytes, bytes/s (a link's in one direction), hertz. `on_chip_bytes` is
    what a kernel can plan with: VMEM of a TensorCore, shared memory of an SM;
    `scalar_bytes` is a TensorCore's memory for scalars, its SMEM. `narrow` are the
    weights of one byte that it multiplies by (see `ir.narrow`), with sources.
    """

    name: str
    kind: str
    title: str
    cores: Figure
    bf16_flops: Figure
    hbm_bandwidth: Figure
    hbm_bytes: Figure
    on_chip_bytes: Figure
    scalar_bytes: Figure
    link_bandwidth: Figure
    clock: Figure
    topology: str
    narrow: Mapping[str, str] = field(default_factory=dict)

    @property
    def figures(self) -> dict[str, Figure]:
        """The figures by name."""
        held = vars(self).items()
        return {name: value for name, value in held if isinstance(value, Figure)}


def _tpu(
    name: str,
    title: str,
    cores: int,
    flops: float,
    bandwidth: Figure,
    hbm: float,
    vmem: float,
    link: Figure,
    clock: Figure,
    topology: str,
    narrow: tuple[str, ...] = ("int8", "fp8"),
) -> Chip:
    return Chip(
        name=name,
        kind="tpu",
        title=title,
        cores=Figure(cores, f"{_INFO}, TensorCores"),
        bf16_flops=Figure(flops, _CLOUD),
        hbm_bandwidth=bandwidth,
        hbm_bytes=Figure(hbm, _BOOK),
        on_chip_bytes=Figure(vmem, f"{_INFO}, VMEM of a TensorCore"),
        scalar_bytes=Figure(_MIB, f"{_INFO}, SMEM of a TensorCore"),
        link_bandwidth=link,
        clock=clock,
        topology=topology,
        narrow=dict.fromkeys(narrow, _LIBTPU),
    )


def _gpu(name: str, title: str, bandwidth: float, hbm: float, clock: Figure) -> Chip:
    return Chip(
        name=name,
        kind="gpu",
        title=title,
        cores=Figure(132, f"{_DATASHEET}, SMs"),
        bf16_flops=Figure(9.89e14, f"{_DATASHEET}, without sparsity"),
        hbm_bandwidth=Figure(bandwidth, _DATASHEET),
        hbm_bytes=Figure(hbm, _DATASHEET),
        on_chip_bytes=Figure(228 * 1024, f"{_DATASHEET}, shared memory of an SM"),
        scalar_bytes=NOT_KNOWN,
        link_bandwidth=Figure(450e9, f"{_DATASHEET}, NVLink"),
        clock=clock,
        topology="NVLink switch",
    )


def _host(name: str, title: str) -> Chip:
    return Chip(
        name=name,
        kind="cpu",
        title=title,
        cores=Figure(os.cpu_count(), "the operating system, logical processors"),
        bf16_flops=NOT_KNOWN,
        hbm_bandwidth=NOT_KNOWN,
        hbm_bytes=NOT_KNOWN,
        on_chip_bytes=NOT_KNOWN,
        scalar_bytes=NOT_KNOWN,
        link_bandwidth=NOT_KNOWN,
        clock=NOT_KNOWN,
        topology="one host",
        narrow=dict.fromkeys(("int8", "fp8"), "XLA converts it to float32"),
    )


_ALL = (
    _host("cpu", "this host, as any CPU"),
    _host("cpu-bf16", "this host, if its CPU multiplies bfloat16"),
    _tpu(
        "tpu-v4",
        "TPU v4",
        2,
        2.75e14,
        Figure(1.23e12, _CLOUD),
        32e9,
        16 * _MIB,
        Figure(45e9, _BOOK),
        Figure(1.05e9, "fitted to times that others measured on the device"),
        "3D torus",
        narrow=("int8",),  # libtpu: "Unsupported matmul RHS type on target" for fp8
    ),
    _tpu(
        "tpu-v5e",
        "TPU v5e",
        1,
        1.97e14,
        Figure(8.2e11, _CLOUD),
        16e9,
        128 * _MIB,
        Figure(45e9, _BOOK),
        Figure(1.5e9, _FROM_PEAK),
        "2D torus",
    ),
    _tpu(
        "tpu-v5p",
        "TPU v5p",
        2,
        4.59e14,
        Figure(2.765e12, f"Google Cloud's TPU pages ({_INFO} says 2.46e12)"),
        95e9,
        64 * _MIB,
        Figure(90e9, _BOOK),
        Figure(1.75e9, _FROM_PEAK),
        "3D torus",
    ),
    _tpu(
        "tpu-v6e",
        "TPU v6e",
        1,
        9.18e14,
        Figure(1.64e12, _CLOUD),
        32e9,
        128 * _MIB,
        Figure(90e9, _BOOK),
        Figure(1.75e9, _FROM_PEAK),
        "2D torus",
    ),
    _tpu(
        "tpu7x",
        "TPU7x",
        2,
        2.31e15,
        Figure(7.4e12, _CLOUD),
        206e9,
        64 * _MIB,
        NOT_KNOWN,
        Figure(2.2e9, _FROM_PEAK),
        "3D torus",
    ),
    _gpu(
        "gpu-h100",
        "NVIDIA H100 SXM",
        3.35e12,
        80e9,
        Figure(1.98e9, "XLA's description of the device"),
    ),
    _gpu("gpu-h200", "NVIDIA H200 SXM", 4.8e12, 141e9, NOT_KNOWN),
)

CHIPS: Mapping[str, Chip] = {chip.name: chip for chip in _ALL}
