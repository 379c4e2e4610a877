import json

import pytest

from glam.data.batches import batches
from glam.data.mixture import TABLE_3, Part, epochs, read_mixture, write_mixture
from glam.data.tokenizer import ByteTokenizer
from ir.errors import BadArgument


def test_table_3_of_the_paper():
    assert [(name, tokens // 10**9, w) for name, (tokens, w) in TABLE_3.items()] == [
        ("web", 143, 0.42),
        ("wikipedia", 3, 0.06),
        ("conversations", 174, 0.28),
        ("forums", 247, 0.02),
        ("books", 390, 0.20),
        ("news", 650, 0.02),
    ]
    assert sum(weight for _, weight in TABLE_3.values()) == pytest.approx(1)


def test_epochs():
    assert epochs([0.06, 0.94], [3, 94], 600) == pytest.approx([12, 6])
    assert epochs([1, 3], [10, 10], 80) == pytest.approx([2, 6])


def test_written_and_read_again_from_another_folder(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("aaaa")
    path = tmp_path / "mixture.json"
    write_mixture(path, [Part("a", "a.txt", 0.25), Part("code", "stdlib", 0.75)])
    monkeypatch.chdir("/")
    assert read_mixture(path) == [
        Part("a", str(tmp_path / "a.txt"), 0.25),
        Part("code", "stdlib", 0.75),
    ]


def test_batches_of_a_mixture(tmp_path):
    for letter in "ab":
        (tmp_path / f"{letter}.txt").write_text(letter * 999)
    path = tmp_path / "mixture.json"
    write_mixture(path, [Part("a", "a.txt", 1), Part("b", "b.txt", 3)])
    made = batches(path, ByteTokenizer(), 40, 100, prefetch=0)
    targets = next(made)["targets"]
    assert (targets == ByteTokenizer().encode("a")[0]).any(axis=1).sum() == 10
    assert made.epochs() == pytest.approx({"a": 1.0, "b": 3.0})


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ("{", "cannot be read"),
        ([], "is not a mixture; make one with `glam data mix`"),
        ({"format": "x"}, "is not a mixture"),
        ({"version": 2}, "has version 2, and this glam reads version 1"),
        ({"sources": []}, "has no sources"),
        ({"sources": [{"name": "a"}]}, "needs a name, a source and a weight"),
        (
            {"sources": [{"name": "a", "source": "b", "weight": 0}]},
            "the weight of a is 0: it must be positive",
        ),
    ],
)
def test_what_is_no_mixture_is_refused(tmp_path, document, sentence):
    if isinstance(document, dict):
        document = {"format": "glam mixture", "version": 1} | document
    text = document if isinstance(document, str) else json.dumps(document)
    path = tmp_path / "mixture.json"
    path.write_text(text)
    with pytest.raises(BadArgument, match=sentence):
        read_mixture(path)


def test_a_missing_mixture_and_a_wrong_name(tmp_path):
    with pytest.raises(BadArgument, match=r"cannot be read: .*No such file"):
        read_mixture(tmp_path / "mixture.json")
    with pytest.raises(BadArgument, match=r"must end with .json"):
        write_mixture(tmp_path / "mixture", [])
