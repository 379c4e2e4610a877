import numpy as np
import pytest

from glam.data.document import Document
from glam.data.quality import Features, QualityClassifier
from glam.data.sampling import judge, keep_probability, keeps
from ir.errors import BadArgument

BLANK = QualityClassifier(Features(4), np.zeros(4, np.float32), 2.0)


@pytest.mark.parametrize(
    ("score", "probability"), [(0, 0.0020), (0.5, 0.026), (0.9, 0.424), (1, 1.0)]
)
def test_the_probabilities_that_the_facts_give(score, probability):
    assert keep_probability(score) == pytest.approx(probability, rel=0.03)


@pytest.mark.parametrize("score", [0.0, 0.5, 0.9, 1.0])
def test_the_probability_is_numpys_pareto(score):
    draws = np.random.default_rng(0).pareto(9.0, 1_000_000) > 1 - score
    expected = keep_probability(score)
    deviation = np.sqrt(expected * (1 - expected) / len(draws))
    assert abs(draws.mean() - expected) <= 5 * deviation


@pytest.mark.parametrize("score", [0.0, 0.5, 0.9, 1.0])
def test_texts_are_kept_that_often(score):
    count = 20_000
    kept = sum(keeps(f"text {i}", score) for i in range(count))
    expected = keep_probability(score)
    deviation = np.sqrt(count * expected * (1 - expected))
    assert abs(kept - count * expected) <= 4 * deviation


def test_the_choice_does_not_depend_on_order_or_company():
    texts = [Document(f"text {i}", str(i)) for i in range(600)]
    chosen = {j.document.text for j in judge(texts, BLANK) if j.kept}
    again = {j.document.text for j in judge(texts[::-1], BLANK) if j.kept}
    half = {j.document.text for j in judge(texts[::2], BLANK) if j.kept}
    assert chosen == again
    assert half == {text.text for text in texts[::2]} & chosen
    other = {j.document.text for j in judge(texts, BLANK, seed=1) if j.kept}
    assert other != chosen


def test_blank_documents_are_dropped_with_score_zero():
    made = list(judge([Document(" \n", "a"), Document("b", "b")], BLANK))
    assert made[0][1:] == (0.0, False)
    assert made[1].score == pytest.approx(1 / (1 + np.exp(-2)))


def test_alpha_must_be_positive():
    with pytest.raises(BadArgument, match="alpha=0 must be positive"):
        list(judge([Document("a", "a")], BLANK, alpha=0))
