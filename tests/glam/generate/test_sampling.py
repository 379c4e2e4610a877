from dataclasses import replace

import numpy as np
import pytest

from glam.generate import Settings, generate, sampling, stream
from glam.model import Config
from ir.errors import BadArgument
from tests.glam.generate import tiny

PROMPTS = [[2, 3], [4], [3, 3, 3, 2]]


def run(prompts=PROMPTS, **settings):
    given = Settings(**{"tokens": 4, "end": None} | settings)
    return generate(tiny.CONFIG, tiny.params(), prompts, given)


@pytest.mark.smoke
def test_greedy_follows_the_full_forward_pass():
    for prompt, made in zip(PROMPTS, run(), strict=True):
        logs = tiny.spoken(tuple(prompt), 4)
        rows = np.array([logs[row] for row in logs])
        left = list(logs)
        for place in range(4):  # keep what has the likeliest token here
            best = rows[:, place].max()
            kept = [i for i, row in enumerate(rows) if row[place] >= best - 1e-6]
            rows, left = rows[kept], [left[i] for i in kept]
        assert [made.tokens] == left
        assert made.log_probability == pytest.approx(sum(logs[left[0]]), abs=1e-5)
        assert not made.ended


def test_batches_do_not_change_what_is_said():
    together = run()
    alone = [run([prompt])[0] for prompt in PROMPTS]
    assert [c.tokens for c in together] == [c.tokens for c in alone]


def test_a_seed_gives_the_same_tokens_and_another_one_others():
    first, again, other = (
        [c.tokens for c in run(temperature=1.0, seed=seed, tokens=12)]
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other
    assert len(set(first)) == len(first)


def test_draws_follow_the_model():
    made = run([[2, 3]] * 3000, temperature=1.0, tokens=1)
    found = np.bincount([c.tokens[0] for c in made], minlength=5) / 3000
    truth = [np.exp(logs[0]) for logs in tiny.spoken((2, 3), 1).values()]
    np.testing.assert_allclose(found, truth, atol=0.03)


def test_an_end_token_ends_its_own_row():
    plain = run(tokens=4)
    end = plain[0].tokens[1]
    ended = run(tokens=4, end=end)
    for before, after in zip(plain, ended, strict=True):
        place = before.tokens.index(end) if end in before.tokens else 4
        assert after.tokens == before.tokens[:place]
        assert after.ended == (end in before.tokens)
    assert ended[0].ended


def test_streaming_gives_the_same_tokens_and_can_be_closed():
    settings = Settings(tokens=4, end=run()[0].tokens[1])
    steps = list(stream(tiny.CONFIG, tiny.params(), PROMPTS, settings))
    batch = generate(tiny.CONFIG, tiny.params(), PROMPTS, settings)
    for row, made in enumerate(batch):
        said = [step[row] for step in steps if step[row] is not None]
        assert tuple(said) == made.tokens
    going = stream(tiny.CONFIG, tiny.params(), PROMPTS, settings)
    assert next(going) == steps[0]
    going.close()


def test_damaged_parameters_are_named():
    damaged = tiny.params() | {"final_norm": np.full(8, np.nan, np.float32)}
    with pytest.raises(BadArgument, match="prompt 0 hold NaN after 0 tokens"):
        generate(tiny.CONFIG, damaged, PROMPTS)


@pytest.mark.parametrize(
    ("prompts", "sentence"),
    [
        ([], "there is no prompt"),
        ([[1], []], "prompt 1 holds no token"),
        ([[1, 5]], "prompt 0 holds the token 5, and the model's vocabulary ends at 4"),
        ([[-1]], "prompt 0 holds the token -1"),
    ],
)
def test_bad_prompts(prompts, sentence):
    with pytest.raises(BadArgument, match=sentence):
        stream(tiny.CONFIG, tiny.params(), prompts)


def test_layers_that_look_ahead_cannot_generate():
    config = replace(tiny.CONFIG, layers=2, experts=4, layer="expert_choice")
    with pytest.raises(BadArgument, match="'expert_choice' cannot generate"):
        generate(config, {}, PROMPTS)


def test_another_seed_or_length_compiles_nothing():
    run(temperature=1.0, seed=1, tokens=4)
    programs = sampling._next._cache_size()
    run(temperature=1.0, seed=2, tokens=5)
    assert sampling._next._cache_size() == programs > 0


def test_config_is_served_whatever_it_was_trained_with():
    config = Config.from_json(tiny.CONFIG.to_json() | {"remat": "all"})
    assert generate(config, tiny.params(), [[2, 3]], Settings(tokens=4, end=None)) == (
        run([[2, 3]])
    )
