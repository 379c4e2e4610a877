import random

import pytest

from glam.data.document import Document
from glam.data.noise import (
    NOISE,
    chunks,
    is_noise,
    noise_from,
    noisy_corpus,
    with_noise,
)
from ir.errors import BadArgument

DOCUMENTS = [
    Document("".join(f"line {i} of {n}\n" for i in range(60)), str(n))
    for n in range(120)
]


def characters(texts):
    return sum(len(text.text) for text in texts)


@pytest.mark.parametrize("fraction", [0.0, 0.25, 0.5, 0.8])
def test_the_share_of_noise(fraction):
    mixed = list(with_noise(DOCUMENTS, fraction))
    noise = [text for text in mixed if is_noise(text)]
    assert characters(noise) / characters(mixed) == pytest.approx(fraction, abs=0.02)
    assert [text for text in mixed if not is_noise(text)] == DOCUMENTS


def test_noise_is_seeded_and_of_every_kind():
    made = [noise_from(document) for document in DOCUMENTS]
    assert made == [noise_from(document) for document in DOCUMENTS]
    assert made != [noise_from(document, seed=1) for document in DOCUMENTS]
    assert {text.origin.split("/")[1] for text in made} == set(NOISE)


def test_what_each_kind_keeps():
    text, draw = DOCUMENTS[0].text, random.Random(0)
    shuffled = NOISE["shuffled-words"](text, draw)
    assert sorted(shuffled.split()) == sorted(text.split())
    assert shuffled.split() != text.split()
    assert len(NOISE["random-characters"](text, draw)) == len(text)
    repeated = NOISE["repetition"](text, draw)
    assert len({line for line in repeated.splitlines()[:-1]}) == 1
    assert abs(len(repeated) - len(text)) < 20


def test_chunks_lose_nothing_and_end_at_lines():
    made = list(chunks(DOCUMENTS[:2], 100))
    assert "".join(c.text for c in made) == "".join(d.text for d in DOCUMENTS[:2])
    assert all(c.text.endswith("\n") and len(c.text) < 120 for c in made)
    assert [c.origin for c in made[:2]] == ["0:1", "0:10"]


def test_the_parts_of_a_corpus_have_no_document_in_common():
    corpus = noisy_corpus(DOCUMENTS, characters=200, labelled=0.2, validation=0.2)
    clean = [text for text in corpus.raw if not is_noise(text)]
    origins = [
        {text.origin.split(":")[0] for text in part}
        for part in (clean, corpus.positives, corpus.validation)
    ]
    assert sum(map(len, origins)) == len(set.union(*origins)) == len(DOCUMENTS)
    noise = characters(corpus.raw) - characters(clean)
    assert noise / characters(corpus.raw) == pytest.approx(0.5, abs=0.02)
    assert len(corpus.negatives) == len(corpus.positives) > 0
    assert all(map(is_noise, corpus.negatives))
    assert not any(map(is_noise, corpus.validation))


def test_a_fraction_of_noise_has_limits():
    with pytest.raises(BadArgument, match="1 must be at least 0 and below 1"):
        list(with_noise(DOCUMENTS, 1))
