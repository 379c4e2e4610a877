import random

import pytest

from glam.data.document import Document
from glam.data.near_duplicates import Deduplicator
from glam.data.words import words
from ir.errors import BadArgument

WORDS = [f"w{i}" for i in range(5000)]


def text(seed, length=300):
    return random.Random(seed).choices(WORDS, k=length)


def similarity(left, right):
    sets = [{tuple(t[i : i + 5]) for i in range(len(t) - 4)} for t in (left, right)]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def edited(tokens, edits, seed=0):
    made, draw = list(tokens), random.Random(seed)
    for place in draw.sample(range(len(made)), edits):
        made[place] = "edited"
    return made


def look(threshold, *texts):
    made = Deduplicator(threshold)
    return [
        made.match(Document(" ".join(tokens), str(i))) for i, tokens in enumerate(texts)
    ]


def test_an_equal_text_is_always_found():
    found = look(0.8, text(0), text(1), text(0), [], [], ["!"], ["!"])
    assert [f and tuple(f) for f in found] == [
        *[None, None, ("0", 1.0)],
        *[None, ("3", 1.0), None, ("5", 1.0)],
    ]


def test_case_and_punctuation_do_not_make_a_text_new():
    tokens = text(0)
    assert look(0.9, tokens, [f"{w.upper()}," for w in tokens])[1] == ("0", 1.0)
    assert words("A, b!") == ["a", "b"]


def test_similar_texts_are_found_and_others_are_not():
    """Of 60 pairs well above the threshold, and as many below; estimates may err."""
    texts = [text(seed) for seed in range(60)]
    near = [edited(tokens, 3, seed) for seed, tokens in enumerate(texts)]
    far = [edited(tokens, 25, seed) for seed, tokens in enumerate(texts)]
    assert min(map(similarity, texts, near)) > 0.88
    assert max(map(similarity, texts, far)) < 0.6
    found = look(0.8, *texts, *near, *far)
    assert not any(found[:60])
    right = [f is not None and f.origin == str(i) for i, f in enumerate(found[60:120])]
    assert sum(right) >= 58
    assert not any(found[120:])


def test_the_similarity_is_an_estimate_of_jaccards():
    tokens = text(7)
    near = edited(tokens, 4)
    found = look(0.5, tokens, near)[1]
    assert found.similarity == pytest.approx(similarity(tokens, near), abs=0.14)


def test_the_earlier_text_stays_and_short_ones_are_compared_whole():
    found = look(0.8, ["a", "b"], ["b", "a"], ["a", "b"], ["A", "b."])
    assert [f and f.origin for f in found] == [None, None, "0", "0"]


@pytest.mark.parametrize("threshold", [0, 1.5])
def test_a_threshold_has_limits(threshold):
    with pytest.raises(BadArgument, match=r"must lie in 0..1"):
        Deduplicator(threshold)
