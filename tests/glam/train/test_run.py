import signal

import numpy as np
import pytest

from glam.train.run import Outcome
from glam.train.spike import SpikeRule
from ir.errors import BadArgument
from tests.glam.train.toy import (
    Numbers,
    Told,
    events,
    losses,
    plan,
    toy,
    train,
    weights,
)

STEPS = 14
DONE = Outcome("done", STEPS)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A run without any interruption."""
    folder = tmp_path_factory.mktemp("straight")
    assert train(folder, plan(STEPS)) == DONE
    return folder


def without_interruption(folder, straight):
    """Whether a run ended in the same bits, and its record tells the same losses."""
    return weights(folder, STEPS) == weights(straight, STEPS) and losses(
        folder
    ) == losses(straight)


@pytest.mark.smoke
def test_it_learns(straight):
    told = losses(straight)
    assert [step for step, _ in told] == list(range(1, STEPS + 1))
    assert told[-1][1] < told[0][1] / 4


def test_a_run_goes_on_as_if_it_had_not_stopped(straight, tmp_path):
    assert train(tmp_path, plan(6)) == Outcome("done", 6)
    screen = Told()
    assert train(tmp_path, plan(STEPS), screen=screen) == DONE
    assert "going on after step 6" in screen.sentences[0]
    assert without_interruption(tmp_path, straight)


@pytest.mark.parametrize("done", [2, 10])
def test_steps_after_the_last_checkpoint_are_done_again(straight, tmp_path, done):
    class Killed(Exception):
        pass

    def kill():
        raise Killed

    with pytest.raises(Killed):
        train(tmp_path, plan(STEPS), Numbers(before={done + 1: kill}))
    assert losses(tmp_path)[-1][0] == done
    assert train(tmp_path, plan(STEPS)) == DONE
    assert without_interruption(tmp_path, straight)


def test_sigterm_saves_and_the_run_goes_on(straight, tmp_path):
    def ask():
        signal.raise_signal(signal.SIGTERM)

    stopped = train(tmp_path, plan(STEPS), Numbers(before={6: ask}))
    assert stopped == Outcome("stopped", 7)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] != []
    assert train(tmp_path, plan(STEPS)) == DONE
    assert without_interruption(tmp_path, straight)


def test_a_damaged_checkpoint_costs_steps_and_nothing_else(straight, tmp_path):
    train(tmp_path, plan(10))
    (tmp_path / "checkpoints" / "00000010" / "run.json").write_text("{}")
    screen = Told()
    assert train(tmp_path, plan(STEPS), screen=screen) == DONE
    assert "00000010 is refused: its file run.json" in screen.sentences[0]
    assert "going on after step 8" in screen.sentences[1]
    assert without_interruption(tmp_path, straight)


def test_a_finished_run_is_left_alone(straight):
    before = weights(straight, STEPS)
    assert train(straight, plan(STEPS)) == DONE
    assert weights(straight, STEPS) == before


def test_a_planted_nan_is_skipped_and_counted(tmp_path):
    screen = Told()
    train(tmp_path, plan(6, every=1), Numbers(poisoned=[3]), screen=screen)
    skipped = [(s["step"], s["skipped"], s["skipped_in_all"]) for s in screen.steps]
    assert skipped[2:5] == [(3, False, 0), (4, True, 1), (5, False, 1)]
    assert losses(tmp_path)[3] == (4, None)
    assert np.isfinite([loss for _, loss in losses(tmp_path)[4:]]).all()


def test_a_rollback_goes_on_with_later_data(tmp_path):
    screen = Told()
    bad = Numbers(poisoned=[9, 10])
    assert train(tmp_path, plan(STEPS), bad, screen=screen) == DONE
    steps = [step for step, _ in losses(tmp_path)]
    # Batches 9 and 10 belong to steps 10 and 11; step 9 is the margin.
    assert steps == [*range(1, 12), *range(9, STEPS + 1)]
    (event,) = events(tmp_path, "rollback")
    assert (event["step"], event["to"]) == (11, 8)
    assert "2 steps in a row were skipped" in event["reason"]
    assert any("back to step 8" in sentence for sentence in screen.sentences)
    assert bad.at == STEPS + 3 + 1  # three steps were done twice; one is read ahead


def test_a_spike_of_the_loss_goes_back(tmp_path):
    rule = SpikeRule(window=4, patience=2, deviations=100, margin=1)
    spiked = plan(STEPS, rule=rule)
    assert train(tmp_path, spiked, Numbers(huge=[9, 10])) == DONE
    (event,) = events(tmp_path, "rollback")
    assert (event["step"], event["to"]) == (11, 8)
    assert "2 losses in a row are above" in event["reason"]


def test_a_run_killed_after_a_rollback_does_the_same_again(tmp_path):
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    train(straight, plan(STEPS), Numbers(poisoned=[9, 10]))
    train(killed, plan(10), Numbers(poisoned=[9, 10]))
    train(killed, plan(STEPS), Numbers(poisoned=[9, 10]))
    assert losses(killed) == losses(straight)
    assert weights(killed, STEPS) == weights(straight, STEPS)


def test_without_a_healthy_checkpoint_it_gives_up(tmp_path):
    outcome = train(tmp_path, plan(STEPS), Numbers(poisoned=[1, 2]))
    assert (outcome.ended, outcome.step) == ("diverged", 3)
    assert events(tmp_path, "diverged")


def test_another_model_is_refused_and_nothing_is_lost(straight):
    before = weights(straight, STEPS), losses(straight)
    with pytest.raises(
        BadArgument,
        match=r"00000014 is of another model: name is 'toy' there and 'other' here",
    ):
        train(straight, plan(20), learner=toy(name="other"))
    assert (weights(straight, STEPS), losses(straight)) == before


def test_held_out_data(tmp_path):
    def held_out():
        return iter([next(Numbers(seed=7))] * 3)

    train(tmp_path, plan(4, validate=2), held_out=held_out)
    found = [(line["step"], line["loss"]) for line in events(tmp_path, "validation")]
    assert [step for step, _ in found] == [2, 4]
    assert found[1][1] != found[0][1]
