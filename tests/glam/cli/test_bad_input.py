"""Bad input to every command: one sentence, exit code 2, and nothing is lost.

What is particular to one command stands in that command's own tests.
"""

import sys
from pathlib import Path

import pytest

from glam.cli import COMMANDS, main
from glam.cli.data import STEPS
from glam.data.document import Document
from glam.data.subwords import train_tokenizer
from tests.glam.cli import small_model
from tests.glam.train.minimal import CONFIG

TASK = '{"task": "t", "kind": "text"}\n{"text": "some text"}\n'
SOURCES = (
    "data tokenizer SOURCE --vocabulary 400 --out made",
    "data classify train --positive SOURCE --negative b.txt --out made",
    "data classify train --positive b.txt --negative SOURCE --out made",
    "data filter SOURCE --classifier b.clf --out made.jsonl",
    "data dedup SOURCE --out made.jsonl",
    "data contamination SOURCE --evaluation b.txt",
    "data contamination b.txt --evaluation SOURCE",
    "data mix a=SOURCE@1 --tokens 100",
    "data pack SOURCE --out made",
    "data noise SOURCE --out made.jsonl",
    "train --config a.toml --set data.source=SOURCE --out made",
    "generate model --file SOURCE",
)
BAD = {
    "none.txt": None,
    "empty.txt": b"",
    "latin.txt": b"caf\xe9 au lait\n",
}
SENTENCES = {
    "none.txt": ("does not exist", "there is no file none.txt"),
    "empty.txt": ("the source empty.txt is empty: 1 file read, no text",),
    "latin.txt": ("latin.txt is not utf-8 text: byte 0xe9 at offset 3, line 1",),
}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder with a text, a classifier, a configuration, a task and a model."""
    folder = tmp_path_factory.mktemp("built")
    lines = "".join(f"line {i} of a text with words\n" for i in range(99))
    (folder / "b.txt").write_text(lines)
    (folder / "a.toml").write_text(CONFIG.replace("text.txt", "b.txt"))
    (folder / "task.jsonl").write_text(TASK)
    for name, data in BAD.items():
        if data is not None:
            (folder / name).write_bytes(data)
    small_model.written(folder / "model")
    text = Path(__file__).read_text() + Path(small_model.__file__).read_text()
    train_tokenizer([Document(text, "")], 400).save(folder / "own.model")
    classifier = "data classify train --positive b.txt --negative a.toml --split line"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main([*classifier.split(), "--out", "b.clf"]) == 0
        assert main(["data", "pack", "b.txt", "--out", "store"]) == 0
    return folder


@pytest.fixture
def folder(built, monkeypatch):
    """The same, and afterwards as it was."""
    monkeypatch.chdir(built)
    before = held(built)
    yield built
    assert held(built) == before


def held(folder):
    return {
        str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def refused(capsys, line, *sentences):
    capsys.readouterr()
    assert main(line.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("glam: ")
    assert err.count("\n") == 1
    assert any(sentence in err for sentence in sentences), err


@pytest.mark.parametrize("source", BAD)
@pytest.mark.parametrize("line", SOURCES)
def test_texts(folder, capsys, line, source):
    refused(capsys, line.replace("SOURCE", source), *SENTENCES[source])


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("train --config none.toml", "none.toml: No such file or directory"),
        ("train --config latin.txt", "latin.txt is not UTF-8 text"),
        ("train --config empty.txt", "empty.txt needs the section [model]: add it"),
        ("train --config a.toml --set model.hiden=5", "[model] has no 'hiden'; it has"),
        ("report none", "there is no run in none: it has no metrics.jsonl"),
        ("report b.txt", "there is no run in b.txt: it has no metrics.jsonl"),
        ("report model", "there is no run in model: it has no metrics.jsonl"),
        ("generate none a", "none does not exist: name the folder of a run"),
        ("generate store a", "store holds no model: neither checkpoints/, as a run"),
        ("eval none --tasks task.jsonl", "none does not exist: name the folder of"),
        ("eval model --tasks none.txt", "none.txt cannot be read: No such file"),
        ("eval model --tasks empty.txt", "the task file empty.txt is empty: its"),
        ("eval model --tasks latin.txt", "latin.txt is not utf-8 text: byte 0xe9"),
        ("convert b.txt --out made", "b.txt is not a folder: name the folder of a"),
        ("convert model --out b.txt/made", "b.txt/made cannot be written: "),
        ("data filter b.txt --classifier none --out made", "there is no classifier n"),
        ("data filter b.txt --classifier b.txt --out x.jsonl", "is not a classifier"),
        ("data inspect none", "none is not a packed store: it has no manifest.json"),
        ("data inspect b.txt", "b.txt is not a packed store: it has no manifest.json"),
        ("data mix a=store@x", "the weight 'x' of a is not a number"),
        ("models 8B", "unrecognized arguments: 8B"),
        ("count 9B", "there is no model '9B'; the models are 0.1B, "),
        ("cost 9B", "there is no model '9B'; the models are 0.1B, "),
        ("variants 9B --experts 8", "there is no model '9B'; the models are 0.1B, "),
    ],
)
def test_files_folders_and_names(folder, capsys, line, sentence):
    refused(capsys, line, sentence)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("generate model a --tokenizer own.model", "saved with the tokenizer bytes-2"),
        (
            "eval model --tasks task.jsonl --tokenizer own.model",
            "saved with the tokenizer bytes-259, and this one is sentencepiece-",
        ),
        ("convert model --out made --tokenizer own.model", "saved with the tokenizer"),
        (
            "data inspect store --rows 1 --length 8 --tokenizer own.model",
            "store was packed with another tokenizer (bytes-259, 259 ids) than the one",
        ),
        (
            "train --config a.toml --out made --set data.tokenizer=own.model",
            "the tokenizer has 400 ids and the model's embedding 259; give the model",
        ),
        ("generate model a --tokenizer b.txt", "b.txt is not a SentencePiece model ("),
        ("data pack b.txt --tokenizer b.txt --out made", "is not a SentencePiece mod"),
        ("data pack b.txt --tokenizer x.model --out made", "x.model cannot be read"),
    ],
)
def test_tokenizers_of_others(folder, capsys, line, sentence):
    refused(capsys, line, sentence)


@pytest.mark.parametrize(
    "line",
    [
        "models",
        "models --json",
        "count 8B",
        "cost 8B",
        "variants 8B/64E --experts 8",
        "data mix --preset table3",
        "data contamination b.txt --evaluation b.txt",
        "data inspect store",
        "generate model a --tokens 2",
        "eval model --tasks task.jsonl --json",
    ],
)
def test_standard_output_on_a_full_disk(folder, capsys, monkeypatch, line):
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        code = main(line.split())
        monkeypatch.undo()
    assert code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == "glam: No space left on device"


def test_every_command_is_tried():
    tried = {line.split()[0] for line in SOURCES} | {"report", "eval", "convert"}
    assert tried | {"models", "count", "cost", "variants"} == set(COMMANDS)
    steps = {line.split()[1] for line in SOURCES if line.startswith("data ")}
    assert steps | {"inspect"} == set(STEPS)
