"""Task files, and what is refused of them."""

import builtins
import json
import keyword
import sys
from pathlib import Path

import pytest

from glam.evaluate.task import read_task
from ir.errors import BadArgument

EXAMPLES = Path(__file__).parents[3] / "examples/tasks"
CHOICE = {"task": "t", "kind": "choice"}
WRITE = {"task": "t", "kind": "generate"}
ROW = {"context": "a", "options": ["b", "c"], "answer": 1}


def written(tmp_path, *rows):
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_splits_and_options(tmp_path):
    question = {"context": "a", "answers": ["b"]}
    options = {"until": [".", "!"], "tokens": 5, "metric": "f1", "normalise": False}
    path = written(tmp_path, WRITE | options, question, question | {"split": "train"})
    task = read_task(path)
    assert (task.name, task.kind, task.until, task.tokens) == (
        "t",
        "generate",
        (".", "!"),
        5,
    )
    assert (task.metric, task.normalise) == ("f1", False)
    assert task.training == task.examples
    assert task.examples[0].solved == "ab"


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([], "t.jsonl is empty: its first line names the task"),
        ([[1]], "t.jsonl:1 is list, and each line must be an object"),
        ([{"kind": "choice"}], "t.jsonl:1: 'task' must be a text, and is None"),
        ([{"task": "", "kind": "choice"}], "'task' must name the task"),
        ([{"task": "t", "kind": "quiz"}], "'kind' must be one of choice, generate"),
        ([CHOICE | {"shot": 1}], "a task has no 'shot'; it has task, kind, about"),
        ([WRITE | {"until": "x"}], "'until' must be a list of at least 1 texts"),
        ([WRITE | {"tokens": 0}], "'tokens' must be a whole number of at least 1"),
        ([WRITE | {"metric": "bleu"}], "'metric' must be one of exact_match, f1"),
        ([WRITE | {"normalise": 1}], "'normalise' must be true or false"),
        ([CHOICE], "has no example to test: 0 lines are for training"),
        ([CHOICE, ROW | {"split": "train"}], "no example to test: 1 lines are for"),
        ([CHOICE, ROW | {"split": "dev"}], "'split' must be test or train, and is"),
        ([CHOICE, ROW | {"hint": ""}], "t.jsonl:2: a 'choice' example has no 'hint'"),
        ([CHOICE, {"context": "a"}], "a 'choice' example needs options, answer"),
        ([CHOICE, ROW | {"answer": 2}], "from 0 to 1, and is 2"),
        ([CHOICE, ROW | {"answer": True}], "from 0 to 1, and is True"),
        ([CHOICE, ROW | {"options": ["b"]}], "a list of at least 2 texts, none empty"),
        ([CHOICE, ROW | {"options": ["b", ""]}], "of at least 2 texts, none empty"),
        ([CHOICE, ROW | {"options": ["b", "b"]}], "two 'options' are the same"),
        ([CHOICE, ROW | {"context": 1}], "'context' must be a text, and is 1"),
        ([WRITE, {"context": "", "answers": []}], "'answers' must be a list of at le"),
        ([{"task": "t", "kind": "text"}, {"text": ""}], "'text' is empty, and there"),
    ],
)
def test_what_is_refused(tmp_path, rows, sentence):
    with pytest.raises(BadArgument) as caught:
        read_task(written(tmp_path, *rows))
    assert sentence in str(caught.value)


def test_what_is_no_jsonl(tmp_path):
    path = tmp_path / "t.jsonl"
    for data, sentence in (
        (b"{\n", "t.jsonl:1 is not JSON"),
        (b'{"task": "\xff"}\n', "t.jsonl is not utf-8 text: byte 0xff"),
    ):
        path.write_bytes(data)
        with pytest.raises(BadArgument) as caught:
            read_task(path)
        assert sentence in str(caught.value)
    with pytest.raises(BadArgument, match=r"none\.jsonl cannot be read: No such file"):
        read_task(tmp_path / "none.jsonl")


def test_the_names_that_ship_are_real_and_the_others_are_not():
    task = read_task(EXAMPLES / "real_names.jsonl")
    types = (str, list, dict, set, bytes, int)
    real = {name for one in types for name in dir(one)} | {*dir(builtins)}
    real |= {*keyword.kwlist, *sys.stdlib_module_names}
    assert len(task.examples) == 150
    assert len(task.training) == 25
    for one in (*task.examples, *task.training):
        names = [option.rstrip("( \n") for option in one.options]
        assert [name in real for name in names].index(True) == one.answer
        assert sum(name in real for name in names) == 1
        assert len({"".join(sorted(name)) for name in names}) == 1
    places = [one.answer for one in task.examples]
    assert all(20 <= places.count(place) <= 60 for place in range(4))


def test_the_methods_that_ship_are_real():
    task = read_task(EXAMPLES / "special_methods.jsonl")
    types = (object, str, list, dict, set, int, float, type(lambda: 0))
    real = {name for one in types for name in dir(one)}
    for one in (*task.examples, *task.training):
        assert one.solved.removeprefix("    def ") in real
