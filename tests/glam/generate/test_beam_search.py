import numpy as np
import pytest

from glam.generate import Search, beam
from ir.errors import BadArgument
from tests.glam.generate import tiny

PROMPTS = [[2, 3], [4], [3, 3, 3, 2]]
LENGTH = 4


def best(prompt, end, penalty):
    """The best of all sequences that end within LENGTH tokens, by brute force."""
    found = {}
    for tokens, logs in tiny.spoken(tuple(prompt), LENGTH).items():
        if end in tokens:
            place = tokens.index(end)
            found[tokens[:place]] = sum(logs[: place + 1])
    scores = {
        tokens: total / ((5 + len(tokens) + 1) / 6) ** penalty
        for tokens, total in found.items()
    }
    winner = max(scores, key=scores.get)
    return winner, found[winner]


@pytest.mark.parametrize("penalty", [0.0, 0.6, 3.0])
@pytest.mark.parametrize("end", [0, 1])
def test_wide_beams_find_what_brute_force_finds(end, penalty):
    search = Search(tokens=LENGTH, width=125, penalty=penalty, end=end)
    for prompt, made in zip(
        PROMPTS, beam(tiny.CONFIG, tiny.params(), PROMPTS, search), strict=True
    ):
        tokens, total = best(prompt, end, penalty)
        assert made.tokens == tokens
        assert made.log_probability == pytest.approx(total, abs=1e-5)
        assert made.ended


def test_a_penalty_favours_length():
    lengths = [
        np.mean([len(best(prompt, 1, penalty)[0]) for prompt in PROMPTS])
        for penalty in (0.0, 3.0)
    ]
    assert lengths[0] < lengths[1]


@pytest.mark.smoke
def test_four_beams_do_at_least_as_well_as_one():
    one, four = (
        beam(
            tiny.CONFIG,
            tiny.params(),
            PROMPTS,
            Search(tokens=LENGTH, width=width, penalty=0.0, end=None),
        )
        for width in (1, 4)
    )
    for narrow, wide in zip(one, four, strict=True):
        assert wide.log_probability >= narrow.log_probability - 1e-6
        assert len(wide.tokens) == LENGTH
        assert not wide.ended
        logs = tiny.spoken
    for prompt, made in zip(PROMPTS, four, strict=True):
        truth = sum(logs(tuple(prompt), LENGTH)[made.tokens])
        assert made.log_probability == pytest.approx(truth, abs=1e-5)


def test_batches_do_not_change_what_is_found():
    search = Search(tokens=LENGTH, end=1)
    together = beam(tiny.CONFIG, tiny.params(), PROMPTS, search)
    alone = [beam(tiny.CONFIG, tiny.params(), [p], search)[0] for p in PROMPTS]
    assert [c.tokens for c in together] == [c.tokens for c in alone]


def test_damaged_parameters_are_named():
    damaged = tiny.params() | {"final_norm": np.full(8, np.nan, np.float32)}
    with pytest.raises(BadArgument, match="prompt 0 hold NaN after 0 tokens"):
        beam(tiny.CONFIG, damaged, PROMPTS)
