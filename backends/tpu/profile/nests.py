"""The loops of a program: every bundle belongs to the innermost one around it.

A loop is what lies from a backward branch's target to the end of its delay slots; loops
with one head are one loop.
"""

from collections.abc import Iterable
from typing import NamedTuple


class Nest(NamedTuple):
    """Bundles `begin` to `end`, the end excluded.

    `around` is the place in `Nests.loops` of the loop around it, -1 if there is none;
    `depth` counts the loops from the outermost one, which has 1.
    """

    begin: int
    end: int
    depth: int
    around: int


class Nests:
    """The loops of a program of `bundles` bundles, outer ones before inner ones."""

    def __init__(self, branches: Iterable[tuple[int, int]], bundles: int) -> None:
        self.loops: list[Nest] = []
        self._innermost = [-1] * bundles
        ends: dict[int, int] = {}
        for head, end in branches:
            ends[head] = max(ends.get(head, 0), end)
        for head, end in sorted(ends.items()):
            self._add(head, end)

    def _add(self, head: int, end: int) -> None:
        around = self.innermost(head)
        depth = self.loops[around].depth + 1 if around >= 0 else 1
        number = len(self.loops)
        self.loops.append(Nest(head, end, depth, around))
        self._innermost[head:end] = [number] * (end - head)

    def innermost(self, place: int) -> int:
        """The place in `loops` of the innermost loop around a bundle, or -1."""
        return self._innermost[place]
