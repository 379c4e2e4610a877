import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glam.data.tokenizer import ByteTokenizer, check_vocabulary, load_tokenizer
from ir.errors import BadArgument


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_bytes_decode_to_what_was_encoded(text):
    tokenizer = ByteTokenizer()
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert len(ids) == len(text.encode())
    assert all(3 <= i < tokenizer.vocabulary for i in ids)


def test_special_ids_of_bytes_decode_to_nothing_and_unknown_ones_to_a_mark():
    assert ByteTokenizer().decode([0, 1, 3 + ord("a"), 2, 259, 3 + 0xFF]) == "a" + (
        "\ufffd" * 3
    )


def test_half_a_surrogate_pair_is_replaced():
    assert ByteTokenizer().decode(ByteTokenizer().encode("a\ud800b")) == "a?b"


def test_bytes_by_name():
    assert isinstance(load_tokenizer("bytes"), ByteTokenizer)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("byte", "there is no tokenizer 'byte'; name 'bytes', or the path"),
        ("no/such.model", "no/such.model cannot be read: No such file"),
    ],
)
def test_a_missing_tokenizer(name, sentence):
    with pytest.raises(BadArgument, match=sentence):
        load_tokenizer(name)


def test_what_is_no_model_is_refused(tmp_path):
    path = tmp_path / "tokens.model"
    path.write_bytes(b"not a model")
    with pytest.raises(BadArgument, match=r"not a SentencePiece model \(11 bytes\)"):
        load_tokenizer(path)


def test_a_model_too_small_for_the_tokenizer():
    check_vocabulary(ByteTokenizer(), 259)
    with pytest.raises(BadArgument, match="259 ids and the model's embedding 256"):
        check_vocabulary(ByteTokenizer(), 256)
