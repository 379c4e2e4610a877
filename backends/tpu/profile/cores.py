"""A kernel on all TensorCores of a device: each runs the same bundles as another core.

Where a device has two cores (v4, v5p) the compiler writes one program, which reads the
number of its core from scalar memory; the device is done when the slower core is.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from backends.tpu.profile.dump import KernelText
from backends.tpu.profile.simulate import Profile, simulate

_CORE = re.compile(r"sld \[smem:\[#(?P<symbol>\w+)\]\] /\* megacore core id")
CORES = 2


def core_symbol(bundles: str) -> str | None:
    """Where a program reads the number of its core; None if it never does."""
    found = _CORE.search(bundles)
    return found["symbol"] if found else None


def simulate_device(
    text: KernelText, chip: str, scalars: Mapping[str, list[int]]
) -> Profile:
    """The kernel on every core that runs it, as one estimate."""
    symbol = core_symbol(text.bundles)
    if symbol is None:
        return simulate(text, chip, dict(scalars))
    return merged(
        [
            simulate(text, chip, {**scalars, symbol: [core]}, sharers=CORES)
            for core in range(CORES)
        ]
    )


def merged(cores: Sequence[Profile]) -> Profile:
    """The slower core's times and loops; the bytes of both, the mean use of units."""
    slowest = max(cores, key=lambda profile: profile.cycles)
    cycles = slowest.cycles
    used = sum(core.mxu_busy * core.cycles for core in cores) / len(cores) / cycles
    notes = {note for core in cores for note in core.notes}
    return replace(
        slowest,
        mxu_busy=used,
        hbm_read=sum(core.hbm_read for core in cores),
        hbm_written=sum(core.hbm_written for core in cores),
        notes=tuple(sorted(notes)),
        loops=tuple(
            replace(loop, hbm_bytes=sum(core.loops[n].hbm_bytes for core in cores))
            for n, loop in enumerate(slowest.loops)
        ),
    )
