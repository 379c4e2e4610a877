"""A run trained here: its folder generates, is evaluated and is converted."""

import json
import shutil

import pytest

from glam.cli import main

CONFIG = """
[model]
layers = 1
model = 8
hidden = 8
heads = 1
head = 8
vocabulary = 259
sequence = 16
activation_dtype = "float32"
[data]
source = "b.txt"
[train]
steps = 2
batch = 2
[checkpoint]
every = 1
keep = 4
[metrics]
peak = false
"""
TASK = '{"task": "t", "kind": "text"}\n{"text": "some text"}\n'


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("built")
    (folder / "a.toml").write_text(CONFIG)
    (folder / "task.jsonl").write_text(TASK)
    (folder / "b.txt").write_text("some text to learn\n" * 99)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["train", "--config", "a.toml", "--out", "run"]) == 0
    return folder


@pytest.fixture
def folder(built, monkeypatch):
    monkeypatch.chdir(built)
    return built


def told(capsys, line):
    capsys.readouterr()
    assert main(line.split()) == 0
    return json.loads(capsys.readouterr().out)


def test_a_run_and_what_it_was_converted_to_say_the_same(folder, capsys):
    converted = told(capsys, "convert run --out made --json")
    assert (converted["step"], converted["logits_differ_by"]) == (2, 0.0)
    asked = "generate {} some --tokens 4 --json"
    first, second = (told(capsys, asked.format(name)) for name in ("run", "made"))
    assert first["model"]["step"] == 2
    assert second["model"]["step"] is None
    assert first["completions"] == second["completions"]
    asked = "eval {} --tasks task.jsonl --json"
    first, second = (told(capsys, asked.format(name)) for name in ("run", "made"))
    assert first["results"] == second["results"]


def test_a_step_is_chosen(folder, capsys):
    made = told(capsys, "generate run some --tokens 4 --step 1 --json")
    assert made["model"]["step"] == 1
    assert main(["generate", "run", "some", "--step", "7"]) == 2
    assert "run has no checkpoint of step 7; it has those of" in capsys.readouterr().err


def test_a_damaged_checkpoint_is_named_and_passed_over(folder, capsys):
    shutil.copytree("run", "hurt", dirs_exist_ok=True)
    arrays = [
        p for p in (folder / "hurt/checkpoints/00000002").rglob("*") if p.is_file()
    ]
    largest = max(arrays, key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-9])
    assert main(["generate", "hurt", "some", "--tokens", "4", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["model"]["step"] == 1
    assert "hurt/checkpoints/00000002 is refused: " in err
    assert "the one before it is used" in err
    assert main(["generate", "hurt", "some", "--step", "2"]) == 2
    assert "hurt/checkpoints/00000002 is refused: " in capsys.readouterr().err


def test_a_run_without_a_checkpoint(folder, capsys):
    shutil.copytree("run", "bare", dirs_exist_ok=True)
    shutil.rmtree("bare/checkpoints")
    assert main(["eval", "bare", "--tasks", "task.jsonl"]) == 2
    assert "bare holds no model: neither checkpoints/" in capsys.readouterr().err
