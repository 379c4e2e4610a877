"""What `glam train` does in the folder of a run: on one text, on two devices."""

import json
import subprocess
import sys

import pytest

from glam.cli import main
from glam.train.record import read
from tests.glam.train.minimal import CONFIG, options

TRAIN = ["train", "--config", "a.toml", "--out", "run"]
SETTINGS = options(
    model__groups=2,
    model__experts=2,
    train__steps=2,
    train__devices=2,
    train__validate=1,
    metrics__peak="false",
)
COMMAND = "import sys; from glam.cli import main; sys.exit(main(sys.argv[1:]))"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a run of two steps; another process trained it."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "a.toml").write_text(CONFIG)
    (folder / "text.txt").write_text("".join(f"line {n}\n" for n in range(400)))
    # Started here, so that Python finds the same package as this process.
    files = ["--config", f"{folder}/a.toml", "--out", f"{folder}/run"]
    source = options(data__source=f"{folder}/text.txt")
    program = [sys.executable, "-c", COMMAND, "train", *files, *SETTINGS, *source]
    ran = subprocess.run(program, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return folder


@pytest.fixture
def folder(trained, monkeypatch):
    monkeypatch.chdir(trained)
    return trained


def held(folder):
    """All files and what is in them, but the lock, which names its process."""
    files = (p for p in folder.rglob("*") if p.is_file() and p.name != ".lock")
    return {str(p): p.read_bytes() for p in files}


def test_the_devices_of_the_settings_are_used(folder):
    (start,) = [x for x in read(folder / "run/metrics.jsonl") if "devices" in x]
    assert (start["devices"], start["processes"]) == (2, 1)
    settings = json.loads((folder / "run/settings.json").read_text())
    assert settings["train"]["devices"] == 2


def test_one_text_is_validated_on_its_end(folder):
    lines = read(folder / "run/metrics.jsonl")
    told = [line for line in lines if line.get("event") == "validation"]
    assert [line["step"] for line in told] == [1, 2]


def again(**settings):
    """The command of the run with other settings, in this process of one device."""
    return main([*TRAIN, *SETTINGS, *options(train__devices=1, **settings)])


def test_fewer_steps_than_are_done(folder, capsys):
    before = held(folder)
    assert again(train__steps=1, optimizer__peak=0.5) == 2
    assert capsys.readouterr() == (
        "",
        f"glam: {folder}/run/checkpoints/00000002 is after 2 steps, and train.steps=1 "
        "asks for fewer: raise train.steps to go on, or train in another folder (--out)"
        "\n",
    )
    assert held(folder) == before


def test_as_many_steps_as_are_done(folder, capsys):
    before = held(folder)
    assert again(optimizer__peak=0.5) == 0
    assert "run: step 2, done" in capsys.readouterr().err
    assert held(folder) == before


@pytest.mark.parametrize(
    ("fraction", "sentence"),
    [
        (
            1e-9,
            "none of the 2 documents of two.jsonl is held out: hold out more than "
            "1e-09 of them (data.fraction), or others (data.held_out)",
        ),
        (
            1 - 1e-9,
            "all 2 documents of two.jsonl are held out: hold out less than 1 of them "
            "(data.fraction), or train on all (data.part = 'all')",
        ),
    ],
)
def test_a_part_without_documents_is_told_before_training(
    folder, capsys, fraction, sentence
):
    (folder / "two.jsonl").write_text('{"text": "one"}\n{"text": "another"}\n')
    before = held(folder)
    assert again(data__source="two.jsonl", data__fraction=fraction) == 2
    assert capsys.readouterr().err == f"glam: {sentence}\n"
    assert held(folder) == before


def test_a_layer_that_looks_ahead_is_noted_once(folder, capsys):
    assert again(model__layer="expert_choice") == 2
    note, refusal = capsys.readouterr().err.splitlines()
    assert note == (
        "note: a model with the layer 'expert_choice' cannot generate or score text: "
        "there experts choose among all tokens, also those that come later"
    )
    assert "is of another model: layer is 'glam' there and 'expert_choice'" in refusal
