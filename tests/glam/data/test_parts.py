import pytest

from glam.data.document import Document
from glam.data.parts import PARTS, part_of
from ir.errors import BadArgument

DOCUMENTS = [Document(f"text {i}", str(i)) for i in range(200)]
LINES = Document("".join(f"line {i}\n" for i in range(100)), "a.txt", {"id": 3})


def sides(documents, fraction):
    return [list(part_of(documents, part, fraction)) for part in PARTS[1:]]


def test_each_document_is_on_one_side():
    train, held = sides(DOCUMENTS, 0.1)
    assert sorted(d.origin for d in (*train, *held)) == sorted(
        d.origin for d in DOCUMENTS
    )
    assert 5 < len(held) < 40
    assert list(part_of(DOCUMENTS, "all", 0.1)) == DOCUMENTS


def test_a_single_document_is_cut_at_a_line():
    (train,), (held,) = sides([LINES], 0.05)
    assert train.text + held.text == LINES.text
    assert train.text.endswith("\n")
    assert held.text.startswith("line 9")
    assert 0.05 <= len(held.text) / len(LINES.text) < 0.07
    assert (held.origin, held.record) == ("a.txt", {"id": 3})


@pytest.mark.parametrize("text", ["word " * 200, "one line\n" + "word " * 200])
def test_a_single_document_of_long_lines_is_cut_where_it_is_asked(text):
    (train,), (held,) = sides([Document(text, "a")], 0.1)
    assert len(held.text) == round(0.1 * len(text))
    assert train.text + held.text == text


def test_two_documents_are_not_cut():
    both = [LINES, LINES]
    assert list(part_of(both, "train", 0.05)) == both


@pytest.mark.parametrize(
    ("part", "fraction", "sentence"),
    [
        ("half", 0.1, "there is no part 'half'; use all, train, validation"),
        ("train", 1.0, "a held-out fraction of 1 must lie between 0 and 1"),
        (
            "validation",
            1e-9,
            "none of the 200 documents of a.jsonl is held out: hold out more than "
            "1e-09 of them (data.fraction), or others (data.held_out)",
        ),
        (
            "train",
            1 - 1e-9,
            "all 200 documents of a.jsonl are held out: hold out less than 1 of them "
            "(data.fraction), or train on all (data.part = 'all')",
        ),
    ],
)
def test_what_is_refused(part, fraction, sentence):
    with pytest.raises(BadArgument) as caught:
        list(part_of(DOCUMENTS, part, fraction, "a.jsonl"))
    assert str(caught.value) == sentence
