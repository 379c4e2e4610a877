"""Five hundred damaged dumps: an error, or the number of the dump that was damaged.

Damage that leaves another whole program, such as a changed literal of a copy's size,
is none that a text can show; none of these seeds happens to draw it.
"""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from backends.tpu.profile.simulate import simulate
from ir.errors import MoegenError

# A pipeline on v4: copies in and out, waits for them, a loop around it all.
_TEXT = Path(__file__).with_name("pipelined.txt").read_text()
_FIRST = 9  # the line of the first bundle
_LONGEST = 200


def _cut(text: str, draws: random.Random) -> str:
    return text[: draws.randrange(len(text))]


def _gap(text: str, draws: random.Random) -> str:
    at = draws.randrange(len(text))
    return text[:at] + text[at + draws.randint(1, _LONGEST) :]


def _twice(text: str, draws: random.Random) -> str:
    at = draws.randrange(len(text))
    return text[: at + draws.randint(1, _LONGEST)] + text[at:]


def _garbage(text: str, draws: random.Random) -> str:
    at, count = draws.randrange(len(text)), draws.randint(1, _LONGEST)
    made = "".join(chr(draws.randrange(32, 1000)) for _ in range(count))
    return text[:at] + made + text[at:]


def _byte(text: str, draws: random.Random) -> str:
    at = draws.randrange(len(text))
    return text[:at] + chr(draws.randrange(33, 127)) + text[at + 1 :]


def _bit(text: str, draws: random.Random) -> str:
    at = draws.randrange(len(text))
    return text[:at] + chr(ord(text[at]) ^ 1 << draws.randrange(7)) + text[at + 1 :]


def _lines(text: str, draws: random.Random) -> str:
    """A line is lost, doubled, or changes places with the next."""
    lines = text.splitlines(keepends=True)
    at = draws.randrange(_FIRST, len(lines) - 1)
    pair = lines[at : at + 2]
    made = draws.choice([pair[1:], [pair[0], *pair], pair[::-1]])
    return "".join([*lines[:at], *made, *lines[at + 2 :]])


_DAMAGE: list[Callable[[str, random.Random], str]] = [
    *[_cut, _gap, _twice, _garbage, _byte, _bit],
    *[_lines] * 4,
]
_WHOLE = simulate(_TEXT, "v4").cycles


@pytest.mark.parametrize("damage", range(len(_DAMAGE)))
def test_damaged_dumps_give_an_error_or_the_same_number(damage: int) -> None:
    errors = []
    for seed in range(50):
        text = _DAMAGE[damage](_TEXT, random.Random(1000 * damage + seed))
        try:
            assert simulate(text, "v4").cycles == _WHOLE
        except MoegenError as error:
            errors.append(str(error))
    assert len(errors) >= 25
    assert all(error and "\n" not in error for error in errors)
