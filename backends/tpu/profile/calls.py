"""What one call of a kernel is told at run time: plain data."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class KernelCall:
    """A `pallas_call`: its operands' types, and the words of those that are known.

    Operands are numbered as the compiled kernel numbers them: the grid's dynamic
    bounds, the prefetched scalars, the inputs.
    """

    name: str
    types: tuple[str, ...]
    values: dict[int, list[int]]

    def scalars(self, most: int) -> dict[str, list[int]]:
        """What the simulator takes; operands of more than `most` words are left out.

        Only addresses follow from those, such as the rows that a kernel fetches.
        """
        return {
            f"argument{number}": words
            for number, words in self.values.items()
            if len(words) <= most
        }


def matching(
    calls: Sequence[KernelCall], name: str, types: tuple[str, ...], seen: int
) -> KernelCall | None:
    """The call of a compiled kernel: the `seen`-th of its name and operands.

    The compiler may run kernels of one name and type in another order than they were
    traced in.
    """
    found = [c for c in calls if c.types == types and c.name == name]
    found = found or [c for c in calls if c.types == types]
    return found[min(seen, len(found) - 1)] if found else None
