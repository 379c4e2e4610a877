"""A GLaM trained by the command in two processes, beside one process."""

import json

import numpy as np
import pytest

from glam.cli import main
from glam.train.record import read

CONFIG = """
[model]
layers = 2
model = 8
hidden = 16
heads = 2
head = 4
experts = 4
vocabulary = 259
sequence = 32
groups = 2
activation_dtype = "float32"
[data]
source = "text.jsonl"
[train]
steps = 8
batch = 4
[metrics]
peak = false
"""
TOLERANCE = 1e-4  # sums of gradients are taken in another order


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # The processes that are started compile in a hurry.
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")
    (tmp_path / "a.toml").write_text(CONFIG)
    texts = (f"Text {n} is about {n * n % 97}. " * 9 for n in range(60))
    lines = (json.dumps({"text": text}) for text in texts)
    (tmp_path / "text.jsonl").write_text("\n".join(lines))
    return tmp_path


def test_two_processes_give_the_losses_of_one(folder):
    one, two = (told(folder, name, count) for name, count in (("one", 1), ("two", 2)))
    assert one["start"][0]["processes"] == 1
    assert two["start"][0]["processes"] == 2
    assert len(one["step"]) == len(two["step"]) == 8
    for name in ("loss", "cross_entropy", "load_balance", "gradient_norm", "dropped"):
        wanted, found = ([line[name] for line in run["step"]] for run in (one, two))
        np.testing.assert_allclose(found, wanted, rtol=TOLERANCE, err_msg=name)


def told(folder, name, processes):
    """What a run recorded, by kind of line."""
    command = ["train", "--config", "a.toml", "--out", name]
    assert main([*command, "--processes", str(processes)]) == 0
    lines = read(folder / name / "metrics.jsonl")
    return {
        kind: [line for line in lines if line.get("event", "step") == kind]
        for kind in ("start", "step")
    }
