import pytest

from glam.data.contamination import evaluation_set, look_for, ngram_length
from glam.data.document import Document
from ir.errors import BadArgument


def numbered(start, count):
    return " ".join(f"w{i}" for i in range(start, start + count))


@pytest.mark.parametrize(
    ("lengths", "n"),
    [([5] * 10, 8), ([10] * 10, 10), ([50] * 10, 13), ([9] + [40] * 99, 13)],
)
def test_n_is_the_fifth_percentile_between_8_and_13(lengths, n):
    assert ngram_length(lengths) == n


def test_one_shared_run_is_enough_and_one_word_less_is_not():
    examples = [Document(numbered(100 * i, 10), str(i)) for i in range(3)]
    one = evaluation_set("task", examples)
    assert one.n == 10
    training = [
        Document(f"Before, {numbered(0, 10).upper()}! after", "whole"),
        Document(f"x {numbered(100, 9)} x {numbered(101, 9)}", "nearly"),
    ]
    assert look_for([one], training) == 2
    assert [(o.example, o.training) for o in one.overlaps()] == [("0", "whole")]


def test_short_examples_are_counted_and_never_found():
    one = evaluation_set("task", [Document("a b c", "0"), Document("", "1")])
    look_for([one], [Document("a b c", "train")])
    assert (one.n, one.too_short, len(one.origins)) == (8, 1, 1)
    assert one.overlaps() == []


def test_each_set_has_an_n_of_its_own_in_one_reading():
    short = evaluation_set("short", [Document(numbered(0, 8), "a")])
    long = evaluation_set("long", [Document(numbered(0, 30), "b")])
    training = iter([Document(numbered(0, 8), "8"), Document(numbered(9, 13), "13")])
    look_for([short, long], training)
    assert (short.n, long.n) == (8, 13)
    assert short.overlaps()[0].training == "8"
    assert long.overlaps()[0].training == "13"


def test_a_set_without_words_is_refused():
    with pytest.raises(BadArgument, match="set task has no example with words"):
        evaluation_set("task", [Document("...", "0")])
