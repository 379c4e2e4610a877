"""Results of tasks: by demonstrations, metrics and averages; the lm-eval adapter."""

import json

import numpy as np
import pytest

from glam.evaluate import metrics
from glam.evaluate.evaluation import Result, averages, evaluate
from glam.evaluate.task import Choice, Passage, Question, Task
from ir.errors import BadArgument
from tests.glam.evaluate import reference
from tests.glam.evaluate.test_language import language

TRAINING = tuple(Choice(f"q{i} ", ("yes", "no"), i % 2) for i in range(6))
CHOICES = Task(
    "c",
    "choice",
    (Choice("a ", ("b", "long one"), 0), Choice("c ", ("dd", "e", "f"), 2)),
    TRAINING,
)


class Noted:
    """A language that keeps what it is asked, and prefers what it is told to."""

    def __init__(self, liked=()):
        self.liked, self.asked, self.cut = liked, [], 0

    def log_likelihood(self, pairs):
        from glam.evaluate.language import Written
        from glam.evaluate.scoring import Score

        self.asked += pairs
        return [
            Written(Score(-0.1 if option in self.liked else -5.0, False), len(option))
            for _, option in pairs
        ]

    def write(self, contexts, until, tokens):
        self.asked += contexts
        return ["The Answer." for _ in contexts]


def test_choices_are_normalised_by_tokens():
    result = evaluate(Noted(), CHOICES)
    # By rate the longest option wins, by sum the first of equals.
    assert result.value == 0.0
    assert result.others["accuracy_not_normalised"] == 0.5
    assert result.chance == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert evaluate(Noted(["b", "f"]), CHOICES).value == 1.0
    half = evaluate(Noted(["b"]), CHOICES)
    assert (half.value, half.error) == (0.5, pytest.approx(0.5))


def test_a_model_answers_as_the_oracle_does():
    made = evaluate(language(), CHOICES)
    right, unnormed = [], []
    for one in CHOICES.examples:
        totals = [reference.log_likelihood(one.context, o)[0] for o in one.options]
        rates = [t / len(o) for t, o in zip(totals, one.options, strict=True)]
        right.append(np.argmax(rates) == one.answer)
        unnormed.append(np.argmax(totals) == one.answer)
    assert made.value == np.mean(right)
    assert made.others["accuracy_not_normalised"] == np.mean(unnormed)


@pytest.mark.parametrize("shots", [0, 1, 3])
def test_demonstrations_are_drawn_from_the_training_examples(shots):
    noted = Noted()
    assert evaluate(noted, CHOICES, shots, seed=1).shots == shots
    solved = {one.solved for one in TRAINING}
    contexts = [context for context, _ in noted.asked]
    for context, last in zip(contexts, ["a "] * 2 + ["c "] * 3, strict=True):
        *shown, own = context.split("\n\n")
        assert own == last
        assert len(shown) == len(set(shown)) == shots
        assert set(shown) <= solved
    again, other = Noted(), Noted()
    evaluate(again, CHOICES, shots, seed=1)
    evaluate(other, CHOICES, shots, seed=2)
    assert noted.asked == again.asked
    assert (noted.asked == other.asked) == (shots == 0)


def test_demonstrations_that_are_not_there():
    with pytest.raises(BadArgument, match="'c' has 6 training examples, and 7 demon"):
        evaluate(Noted(), CHOICES, 7)
    with pytest.raises(BadArgument, match="shots=-1 must be a whole number"):
        evaluate(Noted(), CHOICES, -1)
    texts = Task("t", "text", (Passage("ab"),), (Passage("cd"),))
    with pytest.raises(BadArgument, match="'t' predicts texts, which takes no demons"):
        evaluate(Noted(), texts, 1)


def test_answers_are_compared():
    questions = (Question("q", ("an answer",)), Question("q", ("answer two", "x")))
    task = Task("g", "generate", questions, ())
    result = evaluate(Noted(), task)
    assert (result.metric, result.value) == ("exact_match", 0.5)
    assert result.others["f1"] == pytest.approx((1 + 2 / 3) / 2)
    plain = Task("g", "generate", questions, (), metric="f1", normalise=False)
    assert evaluate(Noted(), plain).value == 0.0
    assert metrics.f1("", ["the"], True) == 1.0
    assert metrics.plain(" The cat's  an hat! ") == "cats hat"


def test_texts_are_counted_in_bytes_words_and_tokens():
    texts = ["ab cd", "\N{EURO SIGN}"]
    task = Task("t", "text", tuple(map(Passage, texts)), ())
    nats = -sum(reference.log_likelihood("", text)[0] for text in texts)
    result = evaluate(language(), task)
    assert result.value == pytest.approx(nats / np.log(2) / 8, abs=1e-4)
    assert result.others["word_perplexity"] == pytest.approx(np.exp(nats / 3), rel=1e-4)
    assert result.others["nats_per_token"] == pytest.approx(nats / 8, abs=1e-4)


def test_averages_are_over_tasks():
    kinds = {"choice": (0.5, 1.0), "generate": (0.25,), "text": (9.0,)}
    results = [
        Result("t", kind, 0, 1, "m", value, None)
        for kind, values in kinds.items()
        for value in values
    ]
    found = averages(results)
    assert found == {"NLG": 0.25, "NLU": 0.75, "all": pytest.approx(1.75 / 3)}
    assert averages(results[3:]) == {"NLG": None, "NLU": None, "all": None}


YAML = """
task: {name}
dataset_path: json
dataset_kwargs:
  data_files: {folder}/rows.jsonl
  cache_dir: {folder}/cache
test_split: train
doc_to_text: "{{{{q}}}} "
{rest}
"""
TASKS = {
    "choice": """
output_type: multiple_choice
doc_to_choice: "{{options}}"
doc_to_target: gold
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
""",
    "written": """
output_type: generate_until
doc_to_target: a
generation_kwargs: {until: ["\\n"], max_gen_toks: 5}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
""",
    "rolling": """
output_type: loglikelihood_rolling
doc_to_target: "{{q}} {{a}}"
metric_list: [{metric: bits_per_byte}]
""",
}


def test_lm_eval_gives_our_own_figures(tmp_path):
    import lm_eval
    from lm_eval.tasks import TaskManager

    from glam.evaluate.harness import Harness

    rows = [("ab", "c", ["c", "dd"]), ("xy", "z", ["z", "q"]), ("i", "1", ["j", "1"])]
    documents = [
        {"q": q, "a": a, "options": options, "gold": options.index(a)}
        for q, a, options in rows
    ]
    lines = "".join(json.dumps(document) + "\n" for document in documents)
    (tmp_path / "rows.jsonl").write_text(lines)
    for name, rest in TASKS.items():
        text = YAML.format(name=name, folder=tmp_path, rest=rest)
        (tmp_path / f"{name}.yaml").write_text(text)
    found = lm_eval.simple_evaluate(
        model=Harness(language()),
        tasks=list(TASKS),
        task_manager=TaskManager(include_path=str(tmp_path), include_defaults=False),
        bootstrap_iters=0,
    )["results"]
    right = [
        np.argmax([reference.log_likelihood(q, f" {o}")[0] for o in options])
        == options.index(a)
        for q, a, options in rows
    ]
    assert found["choice"]["acc,none"] == pytest.approx(np.mean(right))
    texts = [f"{q} {a}" for q, a, _ in rows]
    nats = -sum(reference.log_likelihood("", text)[0] for text in texts)
    bits = nats / np.log(2) / sum(map(len, texts))
    assert found["rolling"]["bits_per_byte,none"] == pytest.approx(bits, abs=1e-4)
    written = language().write([f"{q} " for q, _, _ in rows], ["\n"], 5)
    matches = [text == a for text, (_, a, _) in zip(written, rows, strict=True)]
    assert found["written"]["exact_match,none"] == np.mean(matches)


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"do_sample": True}, "the task draws at random"),
        ({"temperature": 0.7}, "the task draws at random"),
        ({"top_k": 4}, "the task asks for 'top_k' in generation_kwargs; known are"),
    ],
)
def test_another_method_than_the_tasks_is_refused(asked, sentence):
    from lm_eval.api.instance import Instance

    from glam.evaluate.harness import Harness

    request = Instance("generate_until", {}, ("a", asked), 0)
    with pytest.raises(BadArgument) as caught:
        Harness(language()).generate_until([request])
    assert sentence in str(caught.value)
