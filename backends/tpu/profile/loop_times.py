"""Where a kernel's cycles go, loop by loop, and the bundles of those that count."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from backends.tpu.profile.bundles import Instruction, Program
from backends.tpu.profile.counters import LEADING
from backends.tpu.profile.issue import STALLS
from backends.tpu.profile.nests import Nest

SHOWN = 0.02  # of the kernel's cycles, for a loop to come with its bundles
_LONGEST = 160  # bundles that are shown
_COMMENT = re.compile(r"/\*(?:(?!\*/).)*(?:\*/|$)")
_TAIL = re.compile(r"^[^{]*\*/\s*")
# `%s458_s8`: a virtual name and the physical register, which says enough.
_REGISTER = re.compile(r"%\w+_((?:[svp]|vm)\d+)\b")


@dataclass(frozen=True)
class LoopTime:
    """A loop's own part of a kernel, the loops inside it not included.

    Bundles `begin` to `end`, the end excluded; `depth` is 1 outside, `around` the place
    of the loop around it among the kernel's, or -1. `rounds` are of all its entries
    together. The other fields are those of `Profile`; `code` are its bundles, where it
    takes `SHOWN` of the kernel or more.
    """

    begin: int
    end: int
    depth: int
    around: int
    rounds: int
    cycles: int
    seconds: float
    mxu_busy: float
    stalls: dict[str, int]
    hbm_bytes: int
    bundles: int
    spills: int
    busy: dict[str, int]
    code: tuple[str, ...] = ()


@dataclass(frozen=True)
class Core:
    """What turns counts into a loop's figures."""

    program: Program
    lines: Sequence[str]
    units: Sequence[str]
    clock_hz: float
    multipliers: float
    cycles: int

    def loop(self, nest: Nest, inner: set[int], counts: Sequence[int]) -> LoopTime:
        """One loop; `inner` are the bundles of the loops inside it."""
        cycles, rounds, dma, read, written = counts[: len(LEADING)]
        issued, stalls, busy = named(counts, self.units)
        fed = sum(value for unit, value in busy.items() if unit.startswith("multiply"))
        own = [place for place in range(nest.begin, nest.end) if place not in inner]
        shown = cycles >= SHOWN * self.cycles
        return LoopTime(
            begin=nest.begin,
            end=nest.end,
            depth=nest.depth,
            around=nest.around,
            rounds=rounds,
            cycles=cycles,
            seconds=cycles / self.clock_hz,
            mxu_busy=fed / max(1, cycles) / self.multipliers,
            stalls=stalls | {"dma": dma},
            hbm_bytes=read + written,
            bundles=issued,
            spills=spills(i for p in own for i in self.program.bundles[p].instructions),
            busy=busy,
            code=tuple(self._code(own)) if shown else (),
        )

    def _code(self, places: Sequence[int]) -> Iterator[str]:
        before = places[0] - 1
        for place in places[:_LONGEST]:
            if place != before + 1:
                yield f"  ... bundles {before + 1:#x} to {place - 1:#x}: a loop inside"
            yield readable(self.lines[self.program.bundles[place].line - 1])
            before = place
        if len(places) > _LONGEST:
            yield f"  ... {len(places) - _LONGEST} more bundles"


def loop_times(
    core: Core, nests: Sequence[Nest], counts: Sequence[Sequence[int]]
) -> tuple[LoopTime, ...]:
    """Every loop, outer ones before inner ones."""
    inner: list[set[int]] = [set() for _ in nests]
    for nest in nests:
        if nest.around >= 0:
            inner[nest.around].update(range(nest.begin, nest.end))
    return tuple(map(core.loop, nests, inner, counts))


def named(
    counts: Sequence[int], units: Sequence[str]
) -> tuple[int, dict[str, int], dict[str, int]]:
    """Bundles, cycles lost by reason, and cycles of each unit, of a list of counts."""
    issued, *rest = counts[len(LEADING) :] or [0]
    stalls = dict.fromkeys(STALLS, 0) | dict(zip(STALLS, rest, strict=False))
    return issued, stalls, dict(zip(units, rest[len(STALLS) :], strict=False))


def spills(instructions: Iterator[Instruction]) -> int:
    """Vector stores into the compiler's own spill space."""
    return sum(
        each.opcode.startswith("vst") and "_spill" in str(each.operands)
        for each in instructions
    )


def readable(line: str) -> str:
    """A bundle's line without comments and without virtual names."""
    place, brace, body = _TAIL.sub("", line).partition("{")
    plain = _REGISTER.sub(r"\1", _COMMENT.sub(" ", body))
    return f"{place}{brace} {' '.join(plain.split())}"
