import json
import re
import resource

from glam.cli import main
from glam.train.page import html

STEPS = [
    {
        "step": number,
        "tokens": number * 10,
        "loss": None if number == 3 else 5 / number,
        "skipped": number == 3,
        "skipped_in_all": int(number >= 3),
        "learning_rate": 0.01,
        "tokens_per_second": 100.0,
        "seconds": 0.1,
        "mfu": None,
    }
    for number in range(1, 6)
]
LINES = [
    {"event": "start", "mfu_formula": "a < b", "peak_source": "measured here"},
    *STEPS,
    {"event": "validation", "step": 5, "loss": 1.5},
    {"event": "rollback", "step": 4, "to": 2, "reason": "spike"},
]


def test_the_page_needs_nothing_else():
    page = html("<tiny>", LINES, {"train": {"steps": 5}})
    assert "Run &lt;tiny&gt;" in page
    assert "a &lt; b" in page
    assert "<td>4 to 2: spike</td>" in page
    assert "<th>train.steps</th><td>5</td>" in page
    titles = re.findall(r"<figure><h2>([^<]*)</h2><svg", page)
    assert titles == ["Loss", "Learning rate", "Tokens a second"]
    # Names of namespaces are no addresses to fetch.
    fetched = re.findall(r'(?:src|href)="(?!#)([^"]*)"', page)
    assert fetched == []
    assert "<script" not in page


def test_the_same_run_gives_the_same_words_and_curves():
    assert html("a", LINES, {}).count("<svg") == html("a", LINES, {}).count("<svg") == 3


def test_the_command(tmp_path):
    (tmp_path / "settings.json").write_text("{}")
    lines = "".join(json.dumps(line) + "\n" for line in LINES)
    # A run that was killed may leave half a line.
    (tmp_path / "metrics.jsonl").write_text(lines + '{"step": 6, "lo')
    assert main(["report", str(tmp_path)]) == 0
    assert "<svg" in (tmp_path / "report.html").read_text()


def test_no_run(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert told == f"glam: there is no run in {tmp_path}: it has no metrics.jsonl"
    (tmp_path / "metrics.jsonl").write_text("no\n")
    (tmp_path / "settings.json").write_text("{}")
    assert main(["report", str(tmp_path)]) == 2
    assert "cannot be read" in capsys.readouterr().err
    (tmp_path / "metrics.jsonl").write_text("[1]\n")
    assert main(["report", str(tmp_path)]) == 2
    assert "cannot be read: a line is no JSON object" in capsys.readouterr().err
    (tmp_path / "metrics.jsonl").write_text("")
    assert main(["report", str(tmp_path)]) == 2
    assert "has no step to show yet: train first" in capsys.readouterr().err
    assert not (tmp_path / "report.html").exists()


def test_a_page_is_whole_or_as_it_was(tmp_path, capsys):
    lines = "".join(json.dumps(line) + "\n" for line in LINES)
    (tmp_path / "metrics.jsonl").write_text(lines)
    (tmp_path / "settings.json").write_text("{}")
    (tmp_path / "report.html").write_text("the page before")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))
    try:
        assert main(["report", str(tmp_path)]) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert "report.html does not fit: File too large" in capsys.readouterr().err
    assert (tmp_path / "report.html").read_text() == "the page before"
    assert len(list(tmp_path.iterdir())) == 3
