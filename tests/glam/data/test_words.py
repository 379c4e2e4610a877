from hypothesis import given, settings
from hypothesis import strategies as st

from glam.data.words import ngram_hashes, words


def test_words_are_lower_case_without_punctuation():
    assert words("Don't stop -- the _END_, (42)!") == [
        "dont",
        "stop",
        "the",
        "end",
        "42",
    ]
    assert words("...") == []


@settings(deadline=None)
@given(st.lists(st.sampled_from("abc"), max_size=12), st.integers(1, 5))
def test_hashes_are_equal_where_runs_are(tokens, n):
    hashes = ngram_hashes(tokens, n).tolist()
    runs = [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
    assert len(hashes) == max(len(runs), 0)
    assert len(set(hashes)) == len(set(runs))
    assert len(set(zip(hashes, runs, strict=True))) == len(set(runs))


def test_a_value_that_must_not_change_from_version_to_version():
    assert ngram_hashes(["a", "b"], 2).tolist() == [17600707323230783946]
