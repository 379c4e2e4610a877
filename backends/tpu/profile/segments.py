"""Cuts a program into segments: runs of bundles that are entered and left as a whole.

A segment ends after a branch's delay slots, after a DMA start, before a DMA wait, and
before a bundle that some branch targets.

On tpu7x the compiler chooses a branch's delay slots, from 1 to 6, and does not print
how many: they end before the next region, branch or DMA wait, and those of a loop
before the first bundle outside of it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from backends.tpu.profile.bundles import Bundle, Program

_WAITS = ("dma.done.wait", "vwait", "swait")
_NOT_STARTS = ("dma.done",)


@dataclass(frozen=True)
class Segment:
    """Bundles `begin` to `end`, the end excluded.

    `branches` are (bundle, target, end of its delay slots).
    """

    begin: int
    end: int
    branches: tuple[tuple[int, int, int], ...]


def is_wait(opcode: str) -> bool:
    """Whether the scalar core stands still at it until a DMA has arrived."""
    return opcode.startswith(_WAITS) and not is_meeting(opcode)


def is_meeting(opcode: str) -> bool:
    """Whether it is part of a barrier of a device's two cores.

    Both run the same program: that they arrive together is assumed.
    """
    barrier = opcode.startswith("vwait.") and opcode.endswith(".trace")
    return barrier or opcode == "vsyncadd.remote"


def is_start(opcode: str) -> bool:
    """Whether it starts a DMA."""
    return opcode.startswith("dma.") and not opcode.startswith(_NOT_STARTS)


class Segments:
    """Segments of a program whose branches have from `least` to `most` delay slots."""

    def __init__(self, program: Program, least: int, most: int) -> None:
        self._bundles = program.bundles
        self._regions = program.regions
        self._least, self._most = least, most
        self._targets = {
            program.regions[each.target]
            for each in program.instructions
            if each.target is not None
        }
        self._known: dict[tuple[int, int], Segment] = {}

    def at(self, begin: int, until: int = 0) -> Segment:
        """The segment from `begin`; `until` closes an earlier branch's delay slots."""
        key = begin, until
        if key not in self._known:
            self._known[key] = self._cut(begin, until)
        return self._known[key]

    def loops(self) -> Iterator[tuple[int, int]]:
        """Each backward branch: its target, and the end of its delay slots."""
        for bundle in self._bundles:
            for target in (self._regions[t] for t in _targets(bundle)):
                if target <= bundle.address:
                    yield target, self._after(bundle.address, target)

    def _cut(self, begin: int, until: int) -> Segment:
        branches: list[tuple[int, int, int]] = []
        place, stop = begin, until
        last = len(self._bundles)
        while place < last:
            bundle = self._bundles[place]
            targets = [self._regions[t] for t in _targets(bundle)]
            after = self._after(place, min(targets)) if targets else 0
            branches += [(place, target, after) for target in targets]
            stop = stop or after
            place += 1
            if place == stop or (not stop and self._breaks(place)):
                break
        return Segment(begin, place, tuple(branches))

    def _after(self, place: int, target: int) -> int:
        """Where the delay slots of the branch at `place` end."""
        end = place + 1 + self._least
        most = min(place + 1 + self._most, len(self._bundles))
        depth = self._bundles[target].depth if target <= place else 0
        while end < most and not _ends_slots(self._bundles[end], depth):
            end += 1
        return end

    def _breaks(self, place: int) -> bool:
        if place in self._targets or place == len(self._bundles):
            return True
        before, after = self._bundles[place - 1], self._bundles[place]
        started = any(is_start(each.opcode) for each in before.instructions)
        return started or any(is_wait(each.opcode) for each in after.instructions)


def _ends_slots(bundle: Bundle, depth: int) -> bool:
    waits = any(is_wait(each.opcode) for each in bundle.instructions)
    outside = bool(bundle.instructions) and bundle.depth < depth
    return bool(bundle.starts) or bool(_targets(bundle)) or waits or outside


def _targets(bundle: Bundle) -> list[int]:
    return [each.target for each in bundle.instructions if each.target is not None]
