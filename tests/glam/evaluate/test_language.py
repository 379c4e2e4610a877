"""Log-likelihoods and written texts, compared with the float64 oracle."""

import inspect

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lm_eval.utils import get_rolling_token_windows

from glam.data.document import Document
from glam.data.subwords import train_tokenizer
from glam.evaluate.language import Language, before, rolling_windows
from glam.evaluate.scoring import Span, score
from glam.generate import Search, Settings, beam, generate
from glam.loading import Loaded
from ir.errors import BadArgument
from tests.glam.cli import small_model
from tests.glam.evaluate import reference

PAIRS = [
    ("", "a"),
    ("ab", "cd"),
    ("x = ", " y"),
    ("a longer context of words", "end"),
    ("\N{EURO SIGN}", "\N{BUG}"),
    ("ab ", "c"),
]


def language(batch=4, beams=4, **changes):
    given = {
        "config": small_model.CONFIG,
        "params": small_model.params(),
        "tokenizer": small_model.ByteTokenizer(),
        "step": None,
    }
    return Language(Loaded(**given | changes), batch, beams)


@pytest.mark.smoke
def test_log_likelihoods_are_the_oracles():
    made = language().log_likelihood(PAIRS)
    for pair, one in zip(PAIRS, made, strict=True):
        total, greedy = reference.log_likelihood(*pair)
        assert one.score.log_likelihood == pytest.approx(total, abs=1e-4)
        assert one.score.greedy == greedy
        assert one.tokens == len(pair[1].encode())


def test_a_greedy_continuation_is_known_as_one():
    config, params = small_model.CONFIG, small_model.params()
    prompt = [1, *reference.ids("ab")]
    (made,) = generate(config, params, [prompt], Settings(tokens=3, end=None))
    best = [*prompt, *made.tokens]
    worse = [*best[:-1], best[-1] - 1]
    first, second = score(config, params, [Span(best, 3), Span(worse, 3)], 4)
    assert first.greedy
    assert not second.greedy
    total, greedy = reference.of_ids(prompt, list(made.tokens))
    assert greedy
    assert first.log_likelihood == pytest.approx(total, abs=1e-4)
    assert made.log_probability == pytest.approx(total, abs=1e-4)


def test_batches_and_padding_change_no_log_likelihood():
    together = language(batch=4).log_likelihood(PAIRS)
    alone = language(batch=1)
    for pair, one in zip(PAIRS, together, strict=True):
        assert alone.log_likelihood([pair])[0].score.log_likelihood == pytest.approx(
            one.score.log_likelihood, abs=2e-5
        )


def test_a_long_context_keeps_its_end():
    asked = language()
    long = "x" * 100 + "abc" * 10
    made = asked.log_likelihood([(long, "de"), ("ab", "cd")])
    kept = reference.ids(long)[-31:]
    total, _ = reference.of_ids(kept, reference.ids("de"))
    assert made[0].score.log_likelihood == pytest.approx(total, abs=1e-4)
    assert asked.cut == 1


def test_what_cannot_be_scored():
    with pytest.raises(BadArgument, match="an empty text has no log-likelihood"):
        language().log_likelihood([("a", "")])
    with pytest.raises(BadArgument, match="has 33 tokens, and the model was trained"):
        language().log_likelihood([("a", "b" * 33)])
    for name in ("batch", "beams"):
        with pytest.raises(BadArgument, match=f"{name}=0 must be a whole number"):
            language(**{name: 0})
    damaged = small_model.params() | {"final_norm": np.full(8, np.nan, np.float32)}
    with pytest.raises(BadArgument, match="a log-likelihood is NaN"):
        language(params=damaged).log_likelihood(PAIRS[:1])


def test_rolling_windows_of_a_text():
    text = "The quick brown fox jumps over the lazy dog, and then " * 2
    ids = reference.ids(text)
    windows = get_rolling_token_windows(ids, 1, small_model.CONFIG.sequence, 1)
    truth = 0.0
    for given_ids, scored in windows:
        context = given_ids[: len(given_ids) - len(scored) + 1]
        truth += reference.of_ids(context, scored)[0]
    made = language().rolling([text, "short"])
    assert made[0].score.log_likelihood == pytest.approx(truth, abs=1e-3)
    assert made[0].tokens == len(ids)
    total, _ = reference.log_likelihood("", "short")
    assert made[1].score.log_likelihood == pytest.approx(total, abs=1e-4)


@given(st.integers(0, 40), st.integers(1, 9))
def test_windows_are_those_of_lm_eval(count, most):
    ids = list(range(10, 10 + count))
    ours = list(rolling_windows(ids, most))
    theirs = list(get_rolling_token_windows(ids, 1, most, 1))
    assert [list(span.ids[:-1]) for span in ours] == [given for given, _ in theirs]
    assert [list(span.ids[-span.scored :]) for span in ours] == [s for _, s in theirs]


def test_beams_end_at_a_stop_of_one_token():
    prompts = [[1, *reference.ids("ab")]]
    made = language().write(["ab"], ["\n"], 6)
    search = Search(6, 4, end=10 + 3)
    (best,) = beam(small_model.CONFIG, small_model.params(), prompts, search)
    tokenizer = small_model.ByteTokenizer()
    assert made == [tokenizer.decode(best.tokens)]
    assert before("one\n\ntwo.three", ["\n\n", "."]) == "one"
    assert before("one", ["x", ""]) == "one"


def test_pairs_are_encoded_as_one_text():
    text = inspect.getsource(inspect)[:40_000]
    tokenizer = train_tokenizer([Document(text, "inspect")], 400)
    asked = language(tokenizer=tokenizer)
    pairs = ("return ", "value"), ("return", " value"), ("retu", "rn value")
    for context, continuation in pairs:
        first, second = asked.encode_pair(context, continuation)
        assert first[0] == 1
        assert tokenizer.decode(first + second) == context + continuation
    for pair in pairs[:2]:
        first, second = asked.encode_pair(*pair)
        assert first[1:] + second == tokenizer.encode("return value")
    assert language().encode_pair("the ", "cat")[1] == reference.ids("cat")
