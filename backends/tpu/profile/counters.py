"""What a run counts, by the loop in which it happens.

A list of numbers for each loop, and a first one for what is outside of all loops: the
fields of `LEADING`, then a passage's totals (bundles, stalls, each unit's cycles).
"""

from collections.abc import Sequence
from typing import TypeAlias

from backends.tpu.profile.nests import Nests

LEADING = ("cycles", "rounds", "dma", "read", "written")
_CYCLES, _ROUNDS, _DMA, _READ, _WRITTEN = range(len(LEADING))

Counts: TypeAlias = tuple[tuple[int, ...], ...]


class Counters:
    """The counts of a run so far."""

    def __init__(self, nests: Nests) -> None:
        self._nests = nests
        self._heads = {nest.begin: 1 + n for n, nest in enumerate(nests.loops)}
        self._held = [[0] * len(LEADING) for _ in range(1 + len(nests.loops))]
        self._frozen: list[tuple[int, ...] | None] = [None] * len(self._held)

    def enter(self, place: int) -> None:
        """A segment begins at this bundle; at a loop's head, a round of it does."""
        if place in self._heads:
            self._changed(self._heads[place])[_ROUNDS] += 1

    def passed(self, place: int, cycles: int, totals: Sequence[int]) -> None:
        """A segment that begins at `place` was issued."""
        held = self._at(place)
        held[_CYCLES] += cycles
        held.extend([0] * (len(LEADING) + len(totals) - len(held)))
        for index, value in enumerate(totals, len(LEADING)):
            held[index] += value

    def waited(self, place: int, cycles: int) -> None:
        """The core stood still for a copy."""
        held = self._at(place)
        held[_CYCLES] += cycles
        held[_DMA] += cycles

    def moved(self, place: int, read: int, written: int) -> None:
        """A copy was started: bytes from and to HBM."""
        held = self._at(place)
        held[_READ] += read
        held[_WRITTEN] += written

    def drained(self, cycles: int) -> None:
        """What is left at the end, outside of all loops."""
        self._changed(0)[_CYCLES] += cycles

    def _at(self, place: int) -> list[int]:
        return self._changed(1 + self._nests.innermost(place))

    def _changed(self, number: int) -> list[int]:
        self._frozen[number] = None
        return self._held[number]

    def freeze(self) -> Counts:
        """The counts of now; a loop that rested since is the same tuple again."""
        kept = [
            tuple(held) if frozen is None else frozen
            for held, frozen in zip(self._held, self._frozen, strict=True)
        ]
        self._frozen = [*kept]
        return tuple(kept)

    def repeat(self, newest: Counts, before: Counts, count: int) -> None:
        """What happened from `before` to `newest` happens `count` times more."""
        for number, (last, first) in enumerate(zip(newest, before, strict=True)):
            if last is first:
                continue
            held = self._changed(number)
            for index, (b, a) in enumerate(zip(last, first, strict=False)):
                held[index] += count * (b - a)

    def total(self) -> list[int]:
        """The counts of all loops together."""
        longest = max(map(len, self._held))
        padded = (held + [0] * (longest - len(held)) for held in self._held)
        return [sum(column) for column in zip(*padded, strict=True)]

    def loops(self) -> list[list[int]]:
        """The counts of each loop, those of the loops inside not included."""
        return self._held[1:]
