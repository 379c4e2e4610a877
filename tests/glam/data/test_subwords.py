import inspect
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glam.data.document import Document
from glam.data.subwords import KINDS, train_tokenizer
from glam.data.tokenizer import SentencePieceTokenizer, load_tokenizer
from ir.errors import BadArgument

PROSE = inspect.getsource(inspect.cleandoc)
DOCUMENTS = [Document(inspect.getsource(inspect)[:40_000], "inspect")]


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request):
    return train_tokenizer(DOCUMENTS, 400, kind=request.param)


def test_special_ids_and_size(tokenizer):
    assert tokenizer.vocabulary == 400
    assert tokenizer.decode([0, 1]) == ""
    assert tokenizer.decode([2, 9999]) == "\ufffd\ufffd"
    assert len(tokenizer.encode(PROSE)) < 0.8 * len(PROSE)


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\u2581")))
def test_text_comes_back_as_it_was(tokenizer, text):
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert all(2 < i < tokenizer.vocabulary for i in ids)


def test_names_of_special_pieces_are_text(tokenizer):
    for text in ("</s>", "<pad><unk>", "<0x41>", "  a  b \r\n\x00"):
        assert min(tokenizer.encode(text)) > 2
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_half_a_surrogate_pair_is_replaced(tokenizer):
    assert tokenizer.decode(tokenizer.encode("a\ud800b")) == "a?b"


def test_saved_and_loaded_again(tokenizer, tmp_path):
    path = tmp_path / "tokens.model"
    tokenizer.save(path)
    loaded = load_tokenizer(path)
    assert loaded.fingerprint == tokenizer.fingerprint
    assert loaded.encode(PROSE) == tokenizer.encode(PROSE)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_texts_give_the_same_model(kind):
    one, two = (train_tokenizer(DOCUMENTS, 400, kind=kind) for _ in range(2))
    assert one.model == two.model


@pytest.mark.parametrize(
    ("vocabulary", "kind", "sentence"),
    [
        (9999, "unigram", "give at most [0-9,]+ pieces, and a vocabulary of 9,999"),
        (262, "unigram", "a vocabulary of 262 cannot hold the [0-9]+ bytes and char"),
        (259, "bpe", "cannot hold the 256 bytes and 4 special pieces"),
        (400, "words", "there is no kind 'words'; use unigram or bpe"),
    ],
)
def test_a_vocabulary_that_the_texts_cannot_fill(vocabulary, kind, sentence):
    with pytest.raises(BadArgument, match=sentence):
        train_tokenizer(DOCUMENTS, vocabulary, kind=kind)


def test_nothing_to_train_on():
    with pytest.raises(BadArgument, match="no text to train a tokenizer on"):
        train_tokenizer([Document("", "empty")], 400)


def test_other_special_ids_are_refused():
    from sentencepiece import SentencePieceTrainer

    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(PROSE.splitlines()),
        model_writer=model,
        vocab_size=60,
        minloglevel=2,
    )
    with pytest.raises(BadArgument, match=r"pad=-1, </s>=2, <unk>=0, and GLaM's are"):
        SentencePieceTokenizer(model.getvalue())


def test_a_source_that_fails_says_so_itself():
    def documents():
        yield DOCUMENTS[0]
        raise BadArgument(reason="line 7 is not JSON")

    with pytest.raises(BadArgument) as caught:
        train_tokenizer(documents(), 400)
    assert str(caught.value) == "line 7 is not JSON"
