"""Task files: JSONL whose first line says what the task is, and then an example a line.

    {"task": "names", "kind": "choice", "about": "where the examples come from"}
    {"context": "import ", "options": ["os", "so"], "answer": 0}
    {"context": "import ", "options": ["sys", "ssy"], "answer": 0, "split": "train"}

What an example holds depends on the kind:

    choice      context, options, answer: the place of the right option, from 0
    generate    context, answers: texts, each of which is right
    text        text: is predicted as a whole

An option stands right behind its context, so a space between them belongs to one of the
two. Examples with "split": "train" are shown as demonstrations and never tested. A task
that generates may say in its first line "until", texts that end an answer (a line
break), "tokens", how many at most (32), "metric", "exact_match" or "f1", which one
counts in averages, and "normalise", whether case, punctuation and articles are left out
of comparisons (true).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

from glam.data.readers import json_lines
from ir.errors import BadArgument, nearest


@dataclass(frozen=True)
class Choice:
    """One of several options is right."""

    context: str
    options: tuple[str, ...]
    answer: int

    @property
    def solved(self) -> str:
        """As a demonstration shows it."""
        return self.context + self.options[self.answer]


@dataclass(frozen=True)
class Question:
    """Something is to be written; each of the answers is right."""

    context: str
    answers: tuple[str, ...]

    @property
    def solved(self) -> str:
        """As a demonstration shows it."""
        return self.context + self.answers[0]


@dataclass(frozen=True)
class Passage:
    """A text is to be predicted."""

    text: str

    @property
    def solved(self) -> str:
        """As a demonstration shows it."""
        return self.text


Example: TypeAlias = Choice | Question | Passage


@dataclass(frozen=True)
class Task:
    """What a task file says; `training` are the examples for demonstrations."""

    name: str
    kind: str
    examples: tuple[Example, ...]
    training: tuple[Example, ...]
    until: tuple[str, ...] = ("\n",)
    tokens: int = 32
    metric: str = "exact_match"
    normalise: bool = True


KINDS = ("choice", "generate", "text")
METRICS = ("exact_match", "f1")
_HEADER = ("task", "kind", "about", "until", "tokens", "metric", "normalise")
_FIELDS: Mapping[str, tuple[str, ...]] = {
    "choice": ("context", "options", "answer"),
    "generate": ("context", "answers"),
    "text": ("text",),
}


def read_task(path: Path) -> Task:
    """The task of a file; raises `BadArgument` with the line of what is wrong."""
    lines = json_lines(path, "utf-8")
    place, header = next(lines, (str(path), None))
    if header is None:
        _refuse(f"the task file {path} is empty: its first line names the task")
    options = _header(place, header)
    found: dict[str, list[Example]] = {"test": [], "train": []}
    for split, example in _examples(lines, options["kind"]):
        found[split].append(example)
    if not found["test"]:
        _refuse(
            f"the task file {path} has no example to test: {len(found['train'])} "
            "lines are for training"
        )
    return Task(
        examples=tuple(found["test"]), training=tuple(found["train"]), **options
    )


def _header(place: str, header: Any) -> dict[str, Any]:
    _object(place, header)
    for key in header:
        if key not in _HEADER:
            close = nearest(key, list(_HEADER))
            _refuse(
                f"{place}: a task has no '{key}'; it has {', '.join(_HEADER)}{close}"
            )
    _text(place, "task", header.get("task"))
    if not header["task"]:
        _refuse(f"{place}: 'task' must name the task")
    if header.get("kind") not in KINDS:
        _refuse(
            f"{place}: 'kind' must be one of {', '.join(KINDS)}, and is "
            f"{header.get('kind')!r}"
        )
    made = {"name": header["task"], "kind": header["kind"]}
    made |= {name: header[name] for name in _HEADER[3:] if name in header}
    if "until" in made:
        _texts(place, "until", made["until"], least=1)
        made["until"] = tuple(made["until"])
    tokens = made.get("tokens", 1)
    if type(tokens) is not int or tokens < 1:
        _refuse(f"{place}: 'tokens' must be a whole number of at least 1")
    if made.get("metric", METRICS[0]) not in METRICS:
        _refuse(f"{place}: 'metric' must be one of {', '.join(METRICS)}")
    if not isinstance(made.get("normalise", True), bool):
        _refuse(f"{place}: 'normalise' must be true or false")
    return made


def _examples(
    lines: Iterator[tuple[str, Any]], kind: str
) -> Iterator[tuple[str, Example]]:
    """Each example with its split."""
    fields = _FIELDS[kind]
    for place, row in lines:
        _object(place, row)
        for key in row:
            if key not in (*fields, "split"):
                _refuse(
                    f"{place}: a '{kind}' example has no '{key}'; it has "
                    f"{', '.join(fields)} and split"
                )
        missing = [name for name in fields if name not in row]
        if missing:
            _refuse(f"{place}: a '{kind}' example needs {', '.join(missing)}")
        split = row.get("split", "test")
        if split not in ("test", "train"):
            _refuse(f"{place}: 'split' must be test or train, and is {split!r}")
        yield split, _example(place, kind, row)


def _example(place: str, kind: str, row: dict[str, Any]) -> Example:
    if kind == "text":
        _text(place, "text", row["text"])
        if not row["text"]:
            _refuse(f"{place}: 'text' is empty, and there is nothing to predict")
        return Passage(row["text"])
    _text(place, "context", row["context"])
    if kind == "generate":
        _texts(place, "answers", row["answers"], least=1)
        return Question(row["context"], tuple(row["answers"]))
    options, answer = row["options"], row["answer"]
    _texts(place, "options", options, least=2)
    if len(set(options)) < len(options):
        _refuse(f"{place}: two 'options' are the same")
    if type(answer) is not int or not 0 <= answer < len(options):
        _refuse(
            f"{place}: 'answer' must be the place of an option, from 0 to "
            f"{len(options) - 1}, and is {answer!r}"
        )
    return Choice(row["context"], tuple(options), answer)


def _object(place: str, row: Any) -> None:
    if not isinstance(row, dict):
        _refuse(f"{place} is {type(row).__name__}, and each line must be an object")


def _text(place: str, name: str, value: Any) -> None:
    if not isinstance(value, str):
        _refuse(f"{place}: '{name}' must be a text, and is {value!r}")


def _texts(place: str, name: str, value: Any, least: int) -> None:
    right = isinstance(value, list) and all(isinstance(v, str) and v for v in value)
    if not right or len(value) < least:
        _refuse(
            f"{place}: '{name}' must be a list of at least {least} texts, none empty"
        )


def _refuse(reason: str) -> NoReturn:
    raise BadArgument(reason=reason)
