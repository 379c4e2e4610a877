import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glam.data.document import Document
from glam.data.rows import Rows
from glam.data.store import pack
from glam.data.tokenizer import ByteTokenizer
from ir.errors import BadArgument

TOKENIZER = ByteTokenizer()
TEXTS = st.lists(st.text("abc", min_size=1, max_size=9), min_size=1, max_size=6)


def packed(texts, length):
    documents = [Document(text, str(i)) for i, text in enumerate(texts)]
    return Rows(pack("texts", documents, TOKENIZER), length)


def lines(rows, key):
    return np.concatenate([rows[i][key] for i in range(len(rows))])


@settings(deadline=None)
@given(TEXTS, st.integers(1, 12))
def test_no_token_is_lost_or_read_twice(texts, length):
    rows = packed(texts, length)
    kept = lines(rows, "segments") > 0
    expected = [i for text in texts for i in [*TOKENIZER.encode(text), 1]]
    assert lines(rows, "targets")[kept].tolist() == expected


@settings(deadline=None)
@given(TEXTS, st.integers(1, 12))
def test_targets_are_the_inputs_one_place_on_within_a_segment(texts, length):
    rows = packed(texts, length)
    for row in (rows[i] for i in range(len(rows))):
        segments, inputs, targets = row["segments"], row["inputs"], row["targets"]
        same = (segments[1:] == segments[:-1]) & (segments[1:] > 0)
        assert (targets[:-1][same] == inputs[1:][same]).all()
        begins = np.diff(segments, prepend=segments[0]) > 0
        assert (inputs[begins] == 1).all()
        ends = (np.diff(segments, append=-1) != 0) & (segments > 0)
        assert (targets[ends][:-1] == 1).all()


@settings(deadline=None)
@given(TEXTS, st.integers(1, 12))
def test_segments_count_from_one_without_gaps_and_padding_comes_last(texts, length):
    rows = packed(texts, length)
    for index in range(len(rows)):
        segments = rows[index]["segments"]
        real = segments[segments > 0]
        assert real[0] == 1
        assert set(np.diff(real)) <= {0, 1}
        padding = length - len(real)
        assert (segments[len(real) :] == 0).all()
        assert padding == 0 or index == len(rows) - 1
        for key in ("inputs", "targets"):
            assert (rows[index][key][len(real) :] == 0).all()
            assert rows[index][key].dtype == np.int32


def test_the_picture_of_the_documentation():
    rows = packed(["abc", "de"], 4)
    a = TOKENIZER.encode("a")[0]
    names = {a + i: letter for i, letter in enumerate("abcde")} | {0: "0", 1: "1"}
    table = [
        ["".join(names[i] for i in row[key].tolist()) for key in ("inputs", "targets")]
        + [row["segments"].tolist()]
        for row in (rows[0], rows[1])
    ]
    assert table == [["1abc", "abc1", [1, 1, 1, 1]], ["1de0", "de10", [1, 1, 1, 0]]]


def test_texts_without_text_are_no_documents():
    rows = packed(["", "ab", ""], 3)
    assert (rows.store.documents, rows.store.tokens) == (1, 3)
    with pytest.raises(BadArgument, match="the source texts has no text to train on"):
        packed(["", ""], 3)


def test_rows_need_a_length_and_end():
    rows = packed(["ab"], 3)
    with pytest.raises(IndexError):
        rows[1]
    with pytest.raises(BadArgument, match="a row of 0 tokens"):
        packed(["ab"], 0)
