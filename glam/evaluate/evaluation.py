"""Tasks on a model: demonstrations, scores, averages (Du et al. 2021, section 5)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import exp, log, sqrt
from typing import NoReturn
from zlib import crc32

import numpy as np

from glam.evaluate.language import Language
from glam.evaluate.metrics import exact_match, f1
from glam.evaluate.task import Choice, Passage, Question, Task
from ir.errors import BadArgument

# Generation and understanding are averaged apart; texts are in no average.
CATEGORIES: Mapping[str, str] = {"generate": "NLG", "choice": "NLU"}


@dataclass(frozen=True)
class Result:
    """A task's figures: `value` is that of `metric`, `error` its standard error.

    `chance` is what guessing gives; `cut` counts contexts that lost their beginning,
    once for each option.
    """

    task: str
    kind: str
    shots: int
    examples: int
    metric: str
    value: float
    error: float | None
    chance: float | None = None
    cut: int = 0
    others: Mapping[str, float] = field(default_factory=dict)


def evaluate(language: Language, task: Task, shots: int = 0, seed: int = 0) -> Result:
    """The result with so many demonstrations before each example.

    They are drawn at random from the task's training examples, anew for each example,
    and joined to it by two line breaks. Raises `BadArgument`.
    """
    check_shots(task, shots)
    language.cut = 0
    shown = [_shown(task, number, shots, seed) for number in range(len(task.examples))]
    if task.kind == "choice":
        return _choices(language, task, shots, shown)
    if task.kind == "generate":
        return _answers(language, task, shots, shown)
    return _passages(language, task)


def check_shots(task: Task, shots: int) -> None:
    """Refuse a number of demonstrations that the task cannot give."""
    if shots < 0:
        _refuse(f"shots={shots} must be a whole number of at least 0")
    if shots and task.kind == "text":
        _refuse(f"the task '{task.name}' predicts texts, which takes no demonstrations")
    if shots > len(task.training):
        _refuse(
            f"the task '{task.name}' has {len(task.training)} training examples, and "
            f"{shots} demonstrations were asked for: take fewer shots"
        )


def averages(results: Sequence[Result]) -> dict[str, float | None]:
    """Means over the generation tasks, over the understanding tasks, and over both."""
    found: dict[str, list[float]] = {name: [] for name in CATEGORIES.values()}
    for result in results:
        if result.kind in CATEGORIES:
            found[CATEGORIES[result.kind]].append(result.value)
    found["all"] = [value for values in found.values() for value in values]
    return {
        name: sum(values) / len(values) if values else None
        for name, values in found.items()
    }


def _shown(task: Task, number: int, shots: int, seed: int) -> str:
    """The demonstrations of one example, and what joins them to it."""
    draw = np.random.default_rng([seed, crc32(task.name.encode()), number])
    if not shots:
        return ""
    chosen = draw.choice(len(task.training), shots, replace=False)
    return "".join(f"{task.training[i].solved}\n\n" for i in chosen)


def _choices(
    language: Language, task: Task, shots: int, shown: Sequence[str]
) -> Result:
    examples = [one for one in task.examples if isinstance(one, Choice)]
    pairs = [
        (demonstrations + one.context, option)
        for one, demonstrations in zip(examples, shown, strict=True)
        for option in one.options
    ]
    written = iter(language.log_likelihood(pairs))
    normed, whole = [], []
    for one in examples:
        own = [next(written) for _ in one.options]
        totals = [option.score.log_likelihood for option in own]
        rates = [t / option.tokens for t, option in zip(totals, own, strict=True)]
        normed.append(float(int(np.argmax(rates)) == one.answer))
        whole.append(float(int(np.argmax(totals)) == one.answer))
    return Result(
        task.name,
        task.kind,
        shots,
        len(examples),
        "accuracy",
        _mean(normed),
        _error(normed),
        _mean([1 / len(one.options) for one in examples]),
        language.cut,
        {"accuracy_not_normalised": _mean(whole)},
    )


def _answers(
    language: Language, task: Task, shots: int, shown: Sequence[str]
) -> Result:
    examples = [one for one in task.examples if isinstance(one, Question)]
    contexts = [d + one.context for one, d in zip(examples, shown, strict=True)]
    written = language.write(contexts, task.until, task.tokens)
    judged = {
        name: [
            judge(text, one.answers, task.normalise)
            for text, one in zip(written, examples, strict=True)
        ]
        for name, judge in (("exact_match", exact_match), ("f1", f1))
    }
    own = judged.pop(task.metric)
    return Result(
        task.name,
        task.kind,
        shots,
        len(examples),
        task.metric,
        _mean(own),
        _error(own),
        cut=language.cut,
        others={name: _mean(values) for name, values in judged.items()},
    )


def _passages(language: Language, task: Task) -> Result:
    texts = [one.text for one in task.examples if isinstance(one, Passage)]
    written = language.rolling(texts)
    nats = -sum(one.score.log_likelihood for one in written)
    sizes = sum(len(text.encode()) for text in texts)
    words = max(sum(len(text.split()) for text in texts), 1)
    tokens = sum(one.tokens for one in written)
    return Result(
        task.name,
        task.kind,
        0,
        len(texts),
        "bits_per_byte",
        nats / log(2) / sizes,
        None,
        others={
            "nats_per_token": nats / tokens,
            "byte_perplexity": exp(nats / sizes),
            "word_perplexity": exp(min(nats / words, 700.0)),
        },
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _error(values: Sequence[float]) -> float | None:
    """The standard error of the mean; None for a single value."""
    if len(values) < 2:
        return None
    spread = float(np.std(values, ddof=1))
    return spread / sqrt(len(values))


def _refuse(reason: str) -> NoReturn:
    raise BadArgument(reason=reason)
