from pathlib import Path

from bench.resilience import CONFIG, Trial, alter, lines, truncate
from glam.train.settings import read_settings


def test_steps_told_are_counted(tmp_path):
    assert lines(tmp_path) == 0
    (tmp_path / "metrics.jsonl").write_text('{"event": "a"}\n{"step": 1, "loss": 2}\n')
    assert lines(tmp_path) == 1


def test_harm_is_one_byte(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(9))
    alter(path)
    assert path.read_bytes() == bytes([0, 0, 0, 0, 1, 0, 0, 0, 0])
    truncate(path)
    assert len(path.read_bytes()) == 8


def test_the_settings_of_a_trial_are_read_and_the_newest_checkpoint_found(tmp_path):
    trial = Trial(tmp_path, 40)
    trial.config.write_text(CONFIG.format(steps=trial.steps))
    assert read_settings(trial.config, [], Path("x")).plan.train.steps == 40
    for name in ("00000005", "00000010", "00000015.refused"):
        (tmp_path / "run" / "checkpoints" / name).mkdir(parents=True)
    assert trial.checkpoints("run")[-1].name == "00000010"
