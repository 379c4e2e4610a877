"""The steps of `glam data` from raw text to packed tokens, and their bad input."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from glam.cli import main
from glam.cli.data import STEPS
from glam.data.batches import batches
from glam.data.tokenizer import ByteTokenizer

WORDS = [
    "alpha",
    "beta",
    "gamma",
    "delta",
    "epsilon",
    "zeta",
    "eta",
    "theta",
    "iota",
    "kappa",
]


def write(path, texts):
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """Good texts say words in order, bad ones in reverse; raw holds both."""
    good = [" ".join([*WORDS, str(i)]) for i in range(60)]
    bad = [" ".join([*WORDS[::-1], str(i)]) for i in range(60)]
    write(tmp_path / "good.jsonl", good[:30])
    write(tmp_path / "bad.jsonl", bad[:30])
    write(tmp_path / "raw.jsonl", good[30:] + bad[30:])
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "wrong.txt").write_bytes(b"\xff\xfe")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def glam(*words):
    return main(["data", *words])


def trained():
    line = "classify train --positive good.jsonl --negative bad.jsonl"
    assert glam(*line.split(), "--out", "q.safetensors") == 0


def test_from_raw_text_to_batches(corpus, capsys):
    trained()
    assert "30 positives, 30 negatives" in capsys.readouterr().out
    steps = [
        "filter raw.jsonl --classifier q.safetensors --out kept.jsonl "
        "--picture kept.png",
        "dedup kept.jsonl good.jsonl --out unique.jsonl.gz",
        "pack unique.jsonl.gz --out packed",
    ]
    for step in steps:
        assert glam(*step.split()) == 0
    lines = (corpus / "kept.jsonl").read_text().splitlines()
    kept = [json.loads(line) for line in lines]
    assert all(row["quality"] > 0.5 and "alpha beta" in row["text"] for row in kept)
    made = next(batches("packed", ByteTokenizer(), 2, 32, prefetch=0))
    assert made["inputs"].shape == (2, 32)
    assert {path.name for path in corpus.iterdir()} == {
        *("good.jsonl", "bad.jsonl", "raw.jsonl", "empty.jsonl", "wrong.txt"),
        *("q.safetensors", "kept.jsonl", "kept.png", "unique.jsonl.gz", "packed"),
    }


def test_json_is_all_that_stdout_holds(corpus, capsys):
    trained()
    capsys.readouterr()
    lines = {
        "filter raw.jsonl --classifier q.safetensors --out a.jsonl": "sources",
        "classify score raw.jsonl --classifier q.safetensors --out b.jsonl": "sources",
        "dedup raw.jsonl --out c.jsonl": "duplicates",
        "pack raw.jsonl --out packed": "sha256",
        "inspect packed --length 9 --rows 1": "shown",
        "mix a=packed@1 --out m.json": "sources",
        "noise raw.jsonl --out noise": "raw",
        "tokenizer raw.jsonl --vocabulary 290 --kind bpe --out t.model": "fingerprint",
    }
    for line, key in lines.items():
        assert glam(*line.split(), "--json") == 0
        assert key in json.loads(capsys.readouterr().out)


def test_filter_reports_each_source(corpus, capsys):
    trained()
    capsys.readouterr()
    line = "filter raw.jsonl bad.jsonl --classifier q.safetensors --out kept.jsonl"
    assert glam(*line.split(), "--json") == 0
    raw, bad = json.loads(capsys.readouterr().out)["sources"]
    assert (raw["source"], raw["documents"]) == ("raw.jsonl", 60)
    assert raw["kept"] + raw["dropped"] == 60
    assert bad["kept"] == 0
    assert sum(raw["histogram"]["documents"]) == 60


def test_contamination_answers_with_its_exit_code(corpus, capsys):
    rows = [
        {"q": " ".join(WORDS)},
        {"q": "one two three four five six seven eight nine ten"},
    ]
    (corpus / "task.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    line = "contamination good.jsonl --evaluation task.jsonl --evaluation-field q"
    assert glam(*line.split(), "--json") == 1
    (task,) = json.loads(capsys.readouterr().out)["evaluation"]
    assert (task["n"], task["examples"], task["contaminated"]) == (10, 2, 1)
    assert task["overlaps"] == [{"example": "task.jsonl:1", "training": "good.jsonl:1"}]
    line = "contamination bad.jsonl --evaluation task.jsonl --evaluation-field q"
    assert glam(*line.split()) == 0
    assert "0.0%" in capsys.readouterr().out


def test_a_subword_store_decodes_to_its_text(corpus, capsys):
    line = "tokenizer raw.jsonl --vocabulary 290 --kind bpe --out t.model"
    assert glam(*line.split()) == 0
    line = "pack good.jsonl --tokenizer t.model --out packed"
    assert glam(*line.split()) == 0
    capsys.readouterr()
    line = "inspect packed --length 4096 --rows 1 --json"
    assert glam(*line.split()) == 0
    shown = json.loads(capsys.readouterr().out)["shown"][0]
    assert shown["1"] == " ".join([*WORDS, "0"])
    assert len(shown) == 30


def test_parts_are_packed_apart(corpus):
    for part in ("train", "validation"):
        line = f"pack raw.jsonl --part {part} --held-out 0.2 --out {part}"
        assert glam(*line.split()) == 0
    tokens = [len(np.load(f"{part}/tokens.npy")) for part in ("train", "validation")]
    assert glam(*["pack", "raw.jsonl", "--out", "all"]) == 0
    assert sum(tokens) == len(np.load("all/tokens.npy"))


def test_table_3_of_the_paper(capsys):
    assert glam("mix", "--preset", "table3", "--tokens", "600e9", "--json") == 0
    rows = json.loads(capsys.readouterr().out)["sources"]
    epochs = {row["name"]: row["epochs"] for row in rows}
    assert epochs["wikipedia"] == pytest.approx(12)
    assert epochs["web"] == pytest.approx(252 / 143)
    assert epochs["news"] < 0.02


def test_weights_of_the_preset_and_of_ones_own(corpus, capsys):
    line = "mix web=raw.jsonl own=good.jsonl@0.58 --preset table3 --tokens 1e4 --json"
    assert glam(*line.split()) == 0
    rows = json.loads(capsys.readouterr().out)["sources"]
    assert [row["weight"] for row in rows] == [0.42, 0.58]
    read = sum(row["tokens"] * row["epochs"] for row in rows)
    assert read == pytest.approx(1e4)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("pack missing --out x", "the source missing does not exist"),
        (
            "pack wrong.txt --out x",
            "wrong.txt is not utf-8 text: byte 0xff at offset",
        ),
        ("pack empty.jsonl --out x", "empty.jsonl is empty: 1 file read, no text"),
        ("pack raw.jsonl --tokenizer byte --out x", "there is no tokenizer 'byte'"),
        ("pack raw.jsonl --out good.jsonl", "good.jsonl exists already"),
        ("inspect .", "is not a packed store"),
        ("inspect ok --rows 1 --tokenizer t.model", "the tokenizer t.model cannot be"),
        ("dedup raw.jsonl --out raw.jsonl --overwrite", "is among the sources"),
        ("dedup raw.jsonl --out x.txt", "must end with .jsonl"),
        ("tokenizer raw.jsonl --vocabulary 9999 --out x", "texts give at most"),
        ("tokenizer empty.jsonl --out x", "empty.jsonl is empty"),
        ("filter raw.jsonl --classifier ok --out x.jsonl", "there is no classifier ok"),
        (
            "classify train --positive good.jsonl --negative empty.jsonl --out x",
            "empty.jsonl is empty",
        ),
        (
            "contamination good.jsonl --evaluation good.jsonl --evaluation-field a",
            "good.jsonl:1 has no field 'a', only text",
        ),
        ("mix", "no source was named"),
        ("mix a", "'a' is not of the form NAME=SOURCE@WEIGHT"),
        ("mix a=raw.jsonl@0", "the weight of a is 0: it must be positive"),
        ("mix a=raw.jsonl@x", "the weight 'x' of a is not a number"),
        ("mix a=raw.jsonl --preset table3", "Table 3 has no source 'a', only web"),
        ("mix a=raw.jsonl@1 a=raw.jsonl@2", "two sources are named a"),
        ("mix a=raw.jsonl@1 --tokens 0", "use at least 1"),
        ("noise raw.jsonl --fraction 1 --out x", "at least 0 and below 1"),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_lost(corpus, capsys, line, sentence):
    assert glam(*["pack", "good.jsonl", "--out", "ok"]) == 0
    capsys.readouterr()
    before = {p: p.read_bytes() for p in corpus.rglob("*") if p.is_file()}
    assert glam(*line.split()) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith("glam: ")
    assert err.count("\n") == 1
    assert sentence in err
    assert before == {p: p.read_bytes() for p in corpus.rglob("*") if p.is_file()}


@pytest.mark.parametrize("step", STEPS)
def test_every_step_has_help_with_an_example(step, capsys):
    assert glam(step, "--help") == 0
    assert f"example: glam data {step}" in capsys.readouterr().out


def test_the_parser_loads_no_heavy_package():
    heavy = ("grain", "jax", "matplotlib", "pyarrow", "sentencepiece", "sklearn")
    program = "import sys, glam.cli.data as data; from glam.cli import main; "
    program += f"main(['data']); print(sorted(sys.modules.keys() & {set(heavy)}))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_bare_command_shows_its_help(capsys):
    assert glam() == 2
    assert "pack" in capsys.readouterr().out
    assert glam("classify") == 2
    assert "score" in capsys.readouterr().out


def run_child(folder, line, limit=None):
    """Start the command in a process of its own, files limited to `limit` bytes."""
    # A suite that runs in the background ignores interrupts, and so would the child.
    program = "import signal as s; s.signal(s.SIGINT, s.default_int_handler);"
    if limit:
        program += f"import resource as r; r.setrlimit(r.RLIMIT_FSIZE, ({limit},) * 2);"
    program += "import sys; from glam.cli import main; sys.exit(main())"
    root = os.path.dirname(os.path.dirname(sys.modules["glam"].__file__))
    return subprocess.Popen(
        [sys.executable, "-c", program, *line.split()],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": root},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )


def test_a_full_disk_leaves_what_was_there(tmp_path):
    """The system's limit on a file's size stands in for a disk that is full."""
    pytest.importorskip("resource")
    (tmp_path / "x.txt").write_text("text " * 9999)
    assert glam("pack", str(tmp_path / "x.txt"), "--out", str(tmp_path / "old")) == 0
    before = (tmp_path / "old" / "tokens.npy").read_bytes()
    child = run_child(tmp_path, "data pack stdlib --out old --overwrite", 200_000)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 2
    assert "old does not fit: File too large" in err
    assert (tmp_path / "old" / "tokens.npy").read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["old", "x.txt"]


def test_an_interrupt_leaves_nothing(tmp_path):
    child = run_child(tmp_path, "data pack stdlib --out packed")
    deadline = time.monotonic() + 30
    while not list(tmp_path.glob(".packed.*.partial/tokens.npy")):
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert (child.returncode, err) == (130, "glam: interrupted\n")
    assert not list(tmp_path.iterdir())
