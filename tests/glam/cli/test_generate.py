"""`glam generate`: what it prints, and what it refuses."""

import json

import jax
import numpy as np
import pytest

from glam.cli import generate as command
from glam.cli import main
from glam.generate import Search, Settings, beam, generate
from glam.generate.text import prompt_of
from tests.glam.cli import small_model

TOKENS = ["--tokens", "6"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(small_model.written(tmp_path_factory.mktemp("model")))


def told(capsys, *arguments):
    assert main(["generate", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def ids(*texts):
    return [[1, *(byte + 3 for byte in text.encode())] for text in texts]


@pytest.mark.smoke
def test_greedy_is_the_best_token_each_time(model, capsys):
    document = told(capsys, model, "ab", *TOKENS)
    (made,) = generate(
        small_model.CONFIG, small_model.params(), ids("ab"), Settings(tokens=6)
    )
    (shown,) = document["completions"]
    assert shown["log_probability"] == pytest.approx(made.log_probability, abs=1e-5)
    assert shown["tokens"] == len(made.tokens)
    assert document["how"]["temperature"] == 0
    assert document["model"]["tokenizer"] == "bytes-259"
    assert document["model"]["jax"] == jax.__version__
    assert main(["generate", model, "ab", *TOKENS]) == 0
    assert capsys.readouterr().out == f"ab{shown['text']}\n"


def test_a_file_of_prompts_gives_what_each_gives_alone(model, capsys, tmp_path):
    texts = ["def f(x):", "\N{EURO SIGN}"]
    lines, rows = tmp_path / "a.txt", tmp_path / "a.jsonl"
    lines.write_text("\n\n".join(texts), encoding="utf-8")
    rows.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
    drawn = ["--temperature", "0.7", "--seed", "5", *TOKENS]
    together = told(capsys, model, "--file", str(lines), *drawn)["completions"]
    assert [c["prompt"] for c in together] == texts
    again = told(capsys, model, "--file", str(rows), *drawn, "--batch", "1")
    assert [c["text"] for c in again["completions"]] == [c["text"] for c in together]
    assert len({c["text"] for c in together}) == 2
    assert main(["generate", model, "--file", str(lines), *drawn]) == 0
    out = capsys.readouterr().out
    assert out.startswith("--- prompt 1\ndef f(x):")
    assert out.count("--- prompt ") == 2


def test_drawing_from_one_choice_is_greedy(model, capsys):
    greedy = told(capsys, model, "ab", *TOKENS)["completions"]
    document = told(capsys, model, "ab", *TOKENS, "--top-k", "1", "--top-p", "0.5")
    assert document["how"]["temperature"] == 1
    assert document["completions"] == greedy


@pytest.mark.parametrize("penalty", [None, "2.5"])
def test_beams(model, capsys, penalty):
    asked = [] if penalty is None else ["--length-penalty", penalty]
    document = told(capsys, model, "ab", "c", *TOKENS, "--beams", *asked)
    search = Search(tokens=6, penalty=float(penalty or 0.6))
    made = beam(small_model.CONFIG, small_model.params(), ids("ab", "c"), search)
    assert document["how"]["width"] == 4
    assert document["how"]["penalty"] == search.penalty
    for shown, completion in zip(document["completions"], made, strict=True):
        assert shown["log_probability"] == pytest.approx(
            completion.log_probability, abs=1e-5
        )


def test_what_is_finished_is_told(model, capsys, monkeypatch):
    def interrupted(model, prompts, how, first):
        if first:
            raise KeyboardInterrupt
        return completions(model, prompts, how, first)

    completions = command._completions
    monkeypatch.setattr(command, "_completions", interrupted)
    asked = ["generate", model, "one", "two", "--tokens", "2", "--batch", "1", "--json"]
    assert main(asked) == 130
    document = json.loads(capsys.readouterr().out)
    assert document["complete"] is False
    assert [one["prompt"] for one in document["completions"]] == ["one"]


def test_prompts_may_stand_behind_options(model, capsys):
    before = told(capsys, model, "ab", "c", *TOKENS)
    assert told(capsys, model, "ab", *TOKENS, "c") == before
    assert told(capsys, model, *TOKENS, "ab", "c") == before
    assert main(["generate", model, *TOKENS, "ab", "--topk"]) == 2
    assert "unrecognized arguments: ab --topk" in capsys.readouterr().err


def test_an_empty_prompt_is_the_start_of_a_document(model, capsys):
    assert told(capsys, model, "", *TOKENS)["completions"][0]["prompt"] == ""
    assert prompt_of(small_model.ByteTokenizer(), "") == [1]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "there is no prompt: name one behind the model, or a --file of them"),
        (["--file", "none.txt"], "there is no file none.txt with prompts"),
        (["--file", "empty.txt"], "the source empty.txt is empty: 1 file read, no"),
        (["--file", "latin.txt"], "latin.txt is not utf-8 text: byte 0xe9 at offset"),
        (["--file", "rows.jsonl"], "rows.jsonl:1 has no field 'prompt', only text"),
        (["a", "--tokens", "0"], "tokens=0 must be a whole number of at least 1"),
        (["a", "--tokens", "99999999999"], "this machine has"),
        (["a", "--temperature", "-1"], "temperature=-1.0 must be 0 (greedy) or above"),
        (["a", "--temperature", "0", "--top-k", "3"], "--temperature 0 draws nothing"),
        (["a", "--top-k", "0"], "top_k=0 must be a whole number of at least 1"),
        (["a", "--top-p", "1.5"], "top_p=1.5 must be above 0 and at most 1"),
        (["a", "--beams", "0"], "width=0 must be a whole number of at least 1"),
        (["a", "--beams", "2", "--top-k", "3"], "beams draw nothing: take --beams or"),
        (["a", "--length-penalty", "1"], "--length-penalty ranks beams: add --beams"),
        (["a", "--batch", "0"], "--batch 0: at least 1"),
        (["a", "--step", "3"], "is a converted model, which has one step: drop --st"),
        (["a", "--tokenizer", "no"], "there is no tokenizer 'no'"),
        (["a\udcff"], "prompt 1 is not UTF-8"),
    ],
)
def test_bad_use(model, capsys, tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").touch()
    (tmp_path / "latin.txt").write_bytes(
        "caf\N{LATIN SMALL LETTER E WITH ACUTE}s".encode("latin-1")
    )
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n')
    refused(capsys, ["generate", model, *arguments], sentence)


def test_folders_without_a_model(capsys, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    for name, sentence in {
        "none": "none does not exist: name the folder of a run, or one that `glam",
        "file": "file is not a folder: name the folder of a run",
        ".": " holds no model: neither checkpoints/, as a run does, nor config.json",
        "run": "there is no checkpoint in",
    }.items():
        refused(capsys, ["generate", str(tmp_path / name), "a"], sentence)


def test_damaged_and_mismatched_models(capsys, tmp_path):
    config = small_model.CONFIG.to_json()
    for change, sentence in (
        ({"layer": 1}, "layer=1 must be a name"),
        ({"expert": 1}, "a model has no 'expert'; it has layers, "),
        ({"hidden": 9}, "the tensor blocks.dense.feed_forward."),
        ({"layers": 2}, "and the model's parameter is float32[2, 1, 32]"),
        (
            {"experts": 4, "layers": 2},
            "the model's parameter blocks.moe.attention.bias is missing",
        ),
        ({"vocabulary": 260}, "the tensor embedding is float32[259, 8]"),
    ):
        folder = small_model.written(tmp_path / "model")
        (folder / "config.json").write_text(json.dumps(config | change))
        refused(capsys, ["generate", str(folder), "a"], sentence)
    (folder / "config.json").write_text("{")
    refused(capsys, ["generate", str(folder), "a"], "config.json is not JSON: ")
    (folder / "config.json").write_text("[1]")
    refused(capsys, ["generate", str(folder), "a"], "config.json holds no object")
    small_model.written(folder)
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-5])
    refused(
        capsys, ["generate", str(folder), "a"], "model.safetensors cannot be read: "
    )
    (folder / "model.safetensors").unlink()
    refused(capsys, ["generate", str(folder), "a"], "model.safetensors is missing")


def test_a_model_of_numbers_that_are_none(capsys, tmp_path):
    damaged = small_model.params() | {"final_norm": np.full(8, np.nan, np.float32)}
    small_model.save(small_model.CONFIG, damaged, tmp_path, small_model.ByteTokenizer())
    refused(capsys, ["generate", str(tmp_path), "a"], "the logits of prompt 0 hold NaN")


def refused(capsys, arguments, sentence):
    capsys.readouterr()
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out in ("", "a")
    assert sentence in err
    assert err.startswith("glam: ")
    assert err.count("\n") == 1
