"""The row space of a choice: which rows an expert has, and where they lie."""

from dataclasses import dataclass

import numpy as np

from ir.errors import ExpertOutOfRange
from ir.interpret.arrays import Array


class TooManyRows(Exception):
    """More choices are kept than the op's bound says can be."""

    def __init__(self, kept: int, rows: int) -> None:
        super().__init__(f"{kept} choices are kept, and its rows hold at most {rows}")


@dataclass(frozen=True)
class Segment:
    """The rows of one expert that has any: their flat choices t*K + k, and places."""

    expert: int
    choices: Array
    rows: slice


def check_choice(choice: Array, experts: int) -> None:
    """Raise unless every id is -1 (dropped) or an expert."""
    wrong = choice[(choice < -1) | (choice >= experts)]
    if wrong.size:
        raise ExpertOutOfRange(last=experts - 1, name="choice", id=int(wrong[0]))


def segments(choice: Array, experts: int, rows: int) -> list[Segment]:
    """The rows of a choice, in the order (expert, flat choice)."""
    check_choice(choice, experts)
    flat = choice.reshape(-1)
    kept = int(np.sum(flat >= 0))
    if kept > rows:
        raise TooManyRows(kept, rows)
    found, start = [], 0
    for expert in range(experts):
        choices = np.flatnonzero(flat == expert)
        if choices.size:
            end = start + choices.size
            found.append(Segment(expert, choices, slice(start, end)))
            start = end
    return found


def row_of_choice(choice: Array, experts: int, rows: int) -> Array:
    """The row of each choice, [T, K]; -1 for a dropped one."""
    places = np.full(choice.size, -1)
    for segment in segments(choice, experts, rows):
        places[segment.choices] = np.arange(segment.rows.start, segment.rows.stop)
    return places.reshape(choice.shape)
