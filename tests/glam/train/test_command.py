"""`glam train` and what it refuses: one sentence, exit code 2, nothing written."""

import pytest

from glam.cli import main
from tests.glam.train.minimal import CONFIG


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.toml").write_text(CONFIG)
    (tmp_path / "text.txt").write_text("some text to learn\n" * 200)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--config", "b.toml"], "b.toml: No such file or directory"),
        (
            ["--set", "trian.steps=5"],
            "a.toml has no 'trian'; it has out, model, ",
        ),
        (["--set", "train.step=5"], "[train] has no 'step'; it has steps, batch, "),
        (["--set", "model.expert=5"], "[model] has no 'expert'; it has name, layers, "),
        (["--set", "model.experts=1"], "k=2 experts a token of experts=1: lower k"),
        (["--set", "train.steps=many"], "train.steps = 'many' must be a whole number"),
        (["--set", "train.steps=0"], "train.steps=0 must be at least 1"),
        (["--set", "steps"], "--set steps: write SECTION.KEY=VALUE"),
        (["--set", "train.devices=0"], "train.devices=0 must be at least 1"),
        (["--set", "optimizer.peak=-1"], "optimizer.peak=-1.0 must be a finite number"),
        (["--set", "checkpoint.keep=1"], "rollback.margin=2 steps reaches past"),
        (["--set", "data.source=none.txt"], "the source none.txt does not exist"),
        (["--set", "data.tokenizer=no"], "there is no tokenizer 'no'"),
        (
            ["--set", "model.vocabulary=100"],
            "the tokenizer has 259 ids and the",
        ),
        (
            ["--set", "train.batch=3", "--set", "train.accumulate=2"],
            "a batch of 3 sequences cannot be divided over 1 devices in 2 parts",
        ),
        (
            ["--set", "train.accumulate=2"],
            "its 1 routing groups cannot be divided over them: make model.gr",
        ),
        (["--processes", "0"], "--processes 0: at least 1"),
        (["--process", "1"], "--coordinator and --process belong together"),
    ],
)
def test_bad_use(folder, capsys, arguments, sentence):
    assert main(["train", "--config", "a.toml", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert sentence in err
    assert err.startswith("glam: ")
    assert err.count("\n") == 1
    assert sorted(path.name for path in folder.iterdir()) == ["a.toml", "text.txt"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"", "text.txt"),
        (b"\xff\xfe\x00", "text.txt"),
    ],
)
def test_a_source_without_text_or_in_another_encoding(folder, capsys, text, sentence):
    (folder / "text.txt").write_bytes(text)
    assert main(["train", "--config", "a.toml"]) == 2
    err = capsys.readouterr().err
    assert sentence in err
    assert err.count("\n") == 1


def test_a_config_that_is_not_toml(folder, capsys):
    (folder / "a.toml").write_text("[model\n")
    assert main(["train", "--config", "a.toml"]) == 2
    assert "a.toml is not TOML: " in capsys.readouterr().err
