"""`glam eval`: what it prints, and what it refuses."""

import json
from pathlib import Path

import pytest

from glam.cli import main
from glam.evaluate import evaluation
from ir.errors import BadArgument
from tests.glam.cli import small_model
from tests.glam.evaluate.test_evaluation import TASKS, YAML

EXAMPLES = Path(__file__).parents[3] / "examples/tasks"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(small_model.written(tmp_path_factory.mktemp("model")))


@pytest.mark.smoke
def test_results_and_averages(model, capsys, tmp_path):
    shipped = (EXAMPLES / "real_names.jsonl").read_text().splitlines()
    few, text = tmp_path / "few.jsonl", tmp_path / "text.jsonl"
    few.write_text("\n".join([*shipped[:5], *shipped[-3:]]))
    text.write_text('{"task": "t", "kind": "text"}\n{"text": "import os"}\n')
    asked = ["eval", model, "--tasks", str(few), str(text)]
    assert main([*asked, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    names, passages = document["results"]
    assert (names["task"], names["examples"], names["chance"]) == (
        "real_names",
        4,
        0.25,
    )
    assert names["metric"] == "accuracy"
    assert passages["metric"] == "bits_per_byte"
    value = names["value"]
    means = {"shots": 0, "NLG": None, "NLU": value, "all": value}
    assert document["averages"] == [means]
    assert document["model"]["device"] == "cpu"
    assert main(asked) == 0
    shown = capsys.readouterr().out
    assert f"{passages['value']:.4f}" in shown
    assert f"averages, shots 0: NLU {value:.4f}, all {value:.4f}\n" in shown
    assert main([*asked, "--shots", "0,1,1"]) == 0
    told = capsys.readouterr()
    rows = [line.split()[:2] for line in told.out.splitlines()[2:5]]
    assert rows == [["real_names", "0"], ["t", "0"], ["real_names", "1"]]
    assert "averages, shots 1: NLU " in told.out
    assert "lost their beginning: the model was trained on 32 tokens" in told.err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "there is no task: name files with --tasks, such as examples/tasks/rea"),
        (["--lm-eval", "x", "--include", "none"], "--include none: there is no such"),
        (["--tasks", "none.jsonl"], "none.jsonl cannot be read: No such file or dir"),
        (["--tasks", "."], ". cannot be read: Is a directory"),
        (["--tasks", "empty.jsonl"], "empty.jsonl is empty: its first line names the"),
        (["--tasks", "bad.jsonl"], "bad.jsonl:2: a 'choice' example needs options, a"),
        (["--tasks", "latin.jsonl"], "latin.jsonl is not utf-8 text: byte 0xe9"),
        (["--tasks", "NAMES", "--shots", "26"], "has 25 training examples, and 26"),
        (["--tasks", "NAMES", "--shots=-1"], "--shots -1: '-1' is no whole number of"),
        (["--tasks", "NAMES", "--shots", "0,x"], "--shots 0,x: 'x' is no whole numb"),
        (["--tasks", "NAMES", "--batch", "0"], "batch=0 must be a whole number"),
        (["--tasks", "NAMES", "--beams", "0"], "beams=0 must be a whole number"),
        (["--tasks", "NAMES", "--step", "1"], "is a converted model, which has one"),
        (["--tasks", "NAMES", "--tokenizer", "no"], "there is no tokenizer 'no'"),
    ],
)
def test_bad_use(model, capsys, tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.jsonl").touch()
    head = '{"task": "t", "kind": "choice"}\n'
    (tmp_path / "bad.jsonl").write_text(head + '{"context": "a"}\n')
    (tmp_path / "latin.jsonl").write_bytes(b'{"task": "caf\xe9s"}\n')
    names = str(EXAMPLES / "real_names.jsonl")
    given = [names if part == "NAMES" else part for part in arguments]
    assert main(["eval", model, *given]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert sentence in err
    assert err.startswith("glam: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("stop", "code", "sentence"),
    [
        (KeyboardInterrupt(), 130, "glam: interrupted"),
        (BadArgument(reason="the second cannot be scored"), 2, "glam: the second can"),
    ],
)
def test_what_is_finished_is_told(
    model, capsys, tmp_path, monkeypatch, stop, code, sentence
):
    for name in ("one", "two"):
        head = json.dumps({"task": name, "kind": "text"})
        (tmp_path / f"{name}.jsonl").write_text(f'{head}\n{{"text": "import os"}}\n')

    def stopping(language, task, *rest):
        if task.name == "two":
            raise stop
        return evaluate(language, task, *rest)

    evaluate = evaluation.evaluate
    monkeypatch.setattr(evaluation, "evaluate", stopping)
    asked = ["eval", model, "--tasks", *map(str, sorted(tmp_path.iterdir()))]
    assert main([*asked, "--json"]) == code
    document = json.loads(capsys.readouterr().out)
    assert [one["task"] for one in document["results"]] == ["one"]
    assert document["complete"] is False
    assert main(asked) == code
    out, err = capsys.readouterr()
    assert out.splitlines()[2].split()[0] == "one"
    told = err.splitlines()
    assert told[0] == "stopped early: the figures printed are of what was finished"
    assert told[1].startswith(sentence)
    assert main([*asked[:3], asked[4], "--json"]) == code
    assert capsys.readouterr().out == ""


def test_tasks_of_lm_eval(model, capsys, tmp_path):
    rows = [{"q": "ab", "a": "c", "options": ["c", "d"], "gold": 0}] * 3
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "rows.jsonl").write_text(lines)
    text = YAML.format(name="mine", folder=tmp_path, rest=TASKS["choice"])
    (tmp_path / "mine.yaml").write_text(text)
    asked = ["eval", model, "--lm-eval", "mine", "--include", str(tmp_path)]
    assert main([*asked, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    (mine,) = document["lm_eval"]
    assert (mine["task"], mine["shots"]) == ("mine", 0)
    assert mine["acc"] in (0.0, 1.0)
    assert document["results"] == []
    assert document["complete"] is True
    (tmp_path / "rows.jsonl").write_text("{")
    broken = text.replace("mine", "broken").replace("cache", "other")
    (tmp_path / "mine.yaml").write_text(broken)
    asked[3] = "broken"
    assert main(asked) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("glam: lm-eval cannot run broken: ")
    assert last.endswith("; most of its tasks fetch data from the network")


def test_a_model_that_is_not_there(capsys):
    names = str(EXAMPLES / "real_names.jsonl")
    assert main(["eval", "none", "--tasks", names]) == 2
    assert "none does not exist: name the folder of a run" in capsys.readouterr().err
