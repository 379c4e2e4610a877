"""A time line in the reader's terms: microseconds, shares, rates, what binds.

`document(profile, ...)` is plain data for JSON and for the HTML page (`page`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from backends.chips import CHIPS
from backends.tpu.profile.confidence import MEANING
from backends.tpu.profile.latencies import latencies
from backends.tpu.profile.loop_times import LoopTime
from backends.tpu.profile.module import ModuleProfile, OpTime
from backends.tpu.profile.simulate import Profile
from backends.tpu.schedule import device_share

# What the units of `units.json` are called by those who program them.
UNITS = {
    "multiply": "MXU",
    "push": "MXU weights",
    "cross": "XLU",
    "transposed": "XLU",
    "transcendental": "EUP",
    "random": "random numbers",
    "scalar_load": "scalar loads",
    "cmem": "CMEM",
}
STALLS = ("operand", "unit", "scalar", "queue", "fence", "dma")
_BINDS = 0.5  # of the time, for a unit to bind; below it is latency
_ISSUE = 0.8
_HOTTEST = 12  # loops that a report lists
_LEAST = 0.01  # of all the time, for a loop to be listed


@dataclass(frozen=True)
class Peak:
    """A device at its best: FLOP/s in bfloat16, bytes/s of HBM."""

    flops: float
    bandwidth: float


def peak(chip: str) -> Peak:
    """Of `v4` and others, as one JAX device."""
    found = CHIPS[f"tpu-{chip}" if f"tpu-{chip}" in CHIPS else chip]
    flops, bandwidth = found.bf16_flops.value, found.hbm_bandwidth.value
    assert flops is not None
    assert bandwidth is not None
    share = device_share(found)
    return Peak(flops * share, bandwidth * share)


def unit_shares(profile: Profile | LoopTime) -> dict[str, float]:
    """The share of the cycles in which each kind of unit is busy, its largest one."""
    cycles = max(1, profile.cycles)
    shares: dict[str, float] = {"MXU": profile.mxu_busy}
    for unit, busy in profile.busy.items():
        name = UNITS.get(unit.rstrip("0123456789"), unit)
        if name != "MXU":
            shares[name] = max(shares.get(name, 0.0), busy / cycles)
    return shares


def binding(profile: Profile | LoopTime, bandwidth: float) -> tuple[str, float]:
    """What most of the time of an op, or of a loop, goes to; of that its share in use.

    Loads of scalars and weights can be hidden, so they never bind on their own.
    """
    shares = unit_shares(profile)
    shares["HBM"] = profile.hbm_bytes / max(profile.seconds, 1e-12) / bandwidth
    shares.pop("scalar loads", None)
    top = max(shares, key=lambda name: shares[name])
    cycles = max(1, profile.cycles)
    waits = profile.stalls.get("dma", 0) / cycles
    issued = profile.bundles / cycles
    if shares[top] >= _BINDS:
        return top, shares[top]
    if waits >= _BINDS:
        return "HBM latency", shares["HBM"]
    if issued >= _ISSUE:
        return "issue of bundles", issued
    return "latency", max(shares[top], issued)


def document(profile: ModuleProfile, **told: Any) -> dict[str, Any]:
    """The whole report; `told` says what was profiled."""
    best = peak(profile.chip)
    seconds = max(profile.seconds, 1e-12)
    return {
        **told,
        "chip": profile.chip,
        "obtained": profile.provenance,
        "libtpu": profile.libtpu,
        "jax": profile.jax,
        "clock_hz": profile.clock_hz,
        "cycles": profile.cycles,
        "microseconds": profile.seconds * 1e6,
        "mxu_busy": profile.mxu_busy,
        "hbm_bytes": profile.hbm_bytes,
        "hbm_bytes_per_second": profile.hbm_bytes / seconds,
        "peak_flops": best.flops,
        "peak_hbm_bytes_per_second": best.bandwidth,
        "confidence": dict(MEANING),
        "kernels": sum(op.kind == "kernel" for op in profile.ops),
        "ops": [op_row(op, profile, best) for op in profile.ops],
        "loops": hottest(profile, best),
    }


def hottest(profile: ModuleProfile, best: Peak) -> list[dict[str, Any]]:
    """The loops that take most of the time, the loops inside them counted apart."""
    rows = sorted(_loop_rows(profile, best), key=lambda row: -row["share"])
    return [row for row in rows if row["share"] >= _LEAST][:_HOTTEST]


def _loop_rows(whole: ModuleProfile, best: Peak) -> Iterator[dict[str, Any]]:
    for op in whole.ops:
        for number, loop in enumerate(op.profile.loops if op.profile else ()):
            if not loop.cycles:
                continue
            cycles = loop.cycles * op.count
            yield {
                "op": op.name,
                "loop": number,
                "around": loop.around if loop.around >= 0 else None,
                "depth": loop.depth,
                "bundles": [loop.begin, loop.end],
                "rounds": loop.rounds * op.count,
                "cycles": cycles,
                "cycles_per_round": loop.cycles / max(1, loop.rounds),
                "us": cycles / whole.clock_hz * 1e6,
                "share": cycles / max(1, whole.cycles),
                "text": list(loop.code),
            } | _spent(loop, op.count, best)


def op_row(op: OpTime, whole: ModuleProfile, best: Peak) -> dict[str, Any]:
    """One op; what is not known of it is None."""
    row: dict[str, Any] = {
        "name": op.name,
        "kind": op.kind,
        "source": op.source,
        "start_us": op.start / whole.clock_hz * 1e6,
        "us": op.cycles / whole.clock_hz * 1e6,
        "cycles": op.cycles,
        "share": op.cycles / max(1, whole.cycles),
        "runs": op.count,
        "obtained_from": op.how,
        "class": op.confidence,
        "note": op.note,
    }
    return row | (_simulated(op.profile, op.count, best) if op.profile else _UNKNOWN)


_UNKNOWN = dict.fromkeys(
    (
        "mxu_busy",
        "units",
        "stalls",
        "spills",
        "hbm_bytes",
        "hbm_bytes_per_second",
        "binds",
        "of_peak",
    )
)


def _simulated(profile: Profile, count: int, best: Peak) -> dict[str, Any]:
    return _spent(profile, count, best) | {"notes": list(profile.notes)}


def _spent(part: Profile | LoopTime, count: int, best: Peak) -> dict[str, Any]:
    """What an op or a loop of it spends its time on, in all its runs."""
    binds, share = binding(part, best.bandwidth)
    cycles = max(1, part.cycles)
    return {
        "mxu_busy": part.mxu_busy,
        "units": unit_shares(part),
        "stalls": {name: part.stalls.get(name, 0) / cycles for name in STALLS},
        "spills": part.spills,
        "hbm_bytes": part.hbm_bytes * count,
        "hbm_bytes_per_second": part.hbm_bytes / max(part.seconds, 1e-12),
        "binds": binds,
        "of_peak": share,
    }


def clock_source(chip: str) -> str:
    """Where the chip's clock comes from."""
    return latencies(chip).figures["clock_hz"].source
