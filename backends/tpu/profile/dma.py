"""DMA: a fixed latency, then HBM bandwidth shared fluidly by all that is in flight.

Completion is counted in granules on sync flags. Rates are cycles per KiB: at most what
reads can carry, what writes can, and what both can together (`units.json`).
"""

import math
from dataclasses import dataclass, field
from typing import Any

from backends.tpu.profile.latencies import Latencies
from backends.tpu.profile.unknown import known
from ir.errors import EndlessKernel, UnknownInstruction, Where

_SIGN = 1 << 31
# On-chip copies do not share HBM; measured VMEM and CMEM copies take 0.5 a KiB on v4.
_LOCAL_CYCLES_PER_KIB = 0.5
_MEMORIES = ("hbm", "vmem", "smem", "cmem", "sflag")


@dataclass
class Transfer:
    """One DMA in flight; it flows from `begin`, and `left` bytes are to come."""

    begin: float
    left: float
    flag: int
    granules: int
    direction: str


@dataclass
class Dma:
    """All DMAs of a core, and the sync flags they complete on."""

    table: Latencies
    now: float = 0.0
    flags: dict[int, int] = field(default_factory=dict)
    flying: list[Transfer] = field(default_factory=list)
    hbm_read: int = 0
    hbm_written: int = 0
    started: int = 0
    sharers: int = 1
    met: float | None = None

    def start(self, opcode: str, at: int, operands: tuple[Any, ...], line: int) -> None:
        """Begin `dma.SOURCE_to_TARGET source, granules, target, flag` at a cycle."""
        if opcode == "dma.general":
            return self.meet(at)
        direction = _direction(opcode, self.table.chip, line)
        granules = known(operands[1], f"the size of {opcode} in line {line}")
        flag = known(operands[3], f"the sync flag of {opcode} in line {line}")
        size = granules * self.table.cycles("granule_bytes")
        self._advance(at)
        latency = self.table[
            {"in": "dma_in", "out": "dma_out"}.get(direction, "dma_local")
        ]
        self.flying.append(Transfer(at + latency, size, flag, granules, direction))
        self.hbm_read += size * (direction == "in")
        self.hbm_written += size * (direction == "out")
        self.started += 1

    def meet(self, at: int) -> None:
        """The device's other core is here too: what it sends, it sends from now on."""
        self.met = at

    def set(self, flag: int, value: int) -> None:
        """`vsyncpa`."""
        self.flags[flag] = _signed(value)

    def add(self, flag: int, value: int) -> None:
        """`vsyncadd`."""
        self.flags[flag] = self.flags.get(flag, 0) + _signed(value)

    def wait(self, flag: int, granules: int, at: int) -> int:
        """The cycle, `at` or later, when the flag has counted that many granules."""
        self._advance(at)
        while self.flags.get(flag, 0) < granules:
            fed = any(each.flag == flag for each in self.flying)
            if not fed and self.met is not None:
                self.flags[flag] = granules
                kib = granules * self.table.cycles("granule_bytes") / 1024
                took = self.table["dma_local"] + kib * _LOCAL_CYCLES_PER_KIB
                return max(at, math.ceil(self.met + took))
            if not fed:
                reason = "a DMA wait is not fed by any DMA in flight"
                raise EndlessKernel(reason=reason)
            self._step(math.inf)
        return max(at, math.ceil(self.now))

    def drained(self) -> int:
        """The cycle when nothing is in flight any more."""
        while self.flying:
            self._step(math.inf)
        return math.ceil(self.now)

    def key(self, at: int) -> tuple[Any, ...]:
        """What is in flight, relative to a cycle; to compare iterations with."""
        return tuple(
            (round(each.begin - at, 3), round(each.left, 3), each.direction)
            for each in self.flying
        )

    def shift(self, cycles: int) -> None:
        """Move everything into the future, as if `cycles` more had passed."""
        self.now += cycles
        if self.met is not None:
            self.met += cycles
        for each in self.flying:
            each.begin += cycles

    def _advance(self, until: float) -> None:
        while self.now < until and self.flying:
            self._step(until)
        self.now = max(self.now, until)

    def _step(self, until: float) -> None:
        """Go to the next begin or end of a transfer, or to `until`."""
        flowing = [each for each in self.flying if each.begin <= self.now]
        begins = [each.begin for each in self.flying if each.begin > self.now]
        rates = self._rates(flowing)
        ends = [
            self.now + each.left / rate
            for each, rate in zip(flowing, rates, strict=True)
        ]
        to = min([*begins, *ends, until])
        for each, rate, end in zip(flowing, rates, ends, strict=True):
            each.left = 0.0 if end <= to else each.left - (to - self.now) * rate
        self.now = max(to, self.now)
        self._finish()

    def _rates(self, flowing: list[Transfer]) -> list[float]:
        """Bytes a cycle of each: equal shares, within what each direction can carry."""
        number = {way: 0 for way in ("in", "out", "local")}
        for each in flowing:
            number[each.direction] += 1
        whole = self._flow(number["in"], number["out"])
        rates = {way: whole[way] / max(1, number[way]) for way in whole}
        rates["local"] = whole["local"]
        return [rates[each.direction] for each in flowing]

    def _flow(self, reads: int, writes: int) -> dict[str, float]:
        """Bytes a cycle of each direction, for all its transfers together."""
        inward = self._rate("cycles_per_kib")
        outward = self._rate("write_cycles_per_kib")
        if reads and writes:
            both = self._rate("mixed_cycles_per_kib")
            wanted = both * reads / (reads + writes)
            inward = min(inward, max(wanted, both - outward))
            outward = min(outward, both - inward)
        local = 1024 / _LOCAL_CYCLES_PER_KIB
        return {"in": inward, "out": outward, "local": local}

    def _rate(self, name: str) -> float:
        return 1024 / (self.table[name] * self.sharers)

    def _finish(self) -> None:
        for each in self.flying:
            if each.left <= 0 and each.begin <= self.now:
                self.flags[each.flag] = self.flags.get(each.flag, 0) + each.granules
        self.flying = [
            each for each in self.flying if each.left > 0 or each.begin > self.now
        ]


def _direction(opcode: str, chip: str, line: int) -> str:
    source, _, target = opcode.removeprefix("dma.").partition("_to_")
    if source not in _MEMORIES or target not in _MEMORIES:
        raise UnknownInstruction(
            Where("the kernel", line), kind="DMA", name=opcode, chip=chip
        )
    if source == "hbm":
        return "in"
    return "out" if target == "hbm" else "local"


def _signed(word: int) -> int:
    return (word ^ _SIGN) - _SIGN
