import pytest

from glam.train.spike import SpikeRule, SpikeWatch
from ir.errors import BadArgument

RULE = SpikeRule(window=8, deviations=5, least=0.02, patience=3, skips=2)


def watched(losses, rule=RULE):
    watch = SpikeWatch(rule)
    for loss in losses:
        assert watch.see(loss, False, True) is None
    return watch


STEADY = [2.0, 2.1, 1.9, 2.0, 2.1, 1.9, 2.0, 2.0]


def test_a_run_of_high_losses_goes_back():
    watch = watched(STEADY)
    # The median deviation is 0.05: five spreads of 1.4826 * 0.05 above 2.
    assert watch.bound() == pytest.approx(2 + 5 * 1.4826 * 0.05)
    assert watch.see(9.0, False, True) is None
    assert watch.see(9.0, False, True) is None
    assert "3 losses in a row are above 2.371" in watch.see(9.0, False, True)
    assert watch.bad == 3


def test_one_high_loss_is_data():
    watch = watched(STEADY)
    assert watch.see(9.0, False, True) is None
    assert watch.see(2.0, False, True) is None
    assert (watch.high, watch.bad) == (0, 0)
    assert 9.0 not in watch.losses


def test_a_steady_loss_has_a_least_spread():
    assert watched([2.0] * 8).bound() == pytest.approx(2 + 5 * 0.02 * 2)


def test_nothing_is_high_before_the_window_is_full():
    watched([2.0] * 7 + [1e9])


def test_skipped_steps_in_a_row():
    watch = watched(STEADY)
    assert watch.see(float("nan"), True, True) is None
    assert watch.see(2.0, False, True) is None
    assert watch.see(float("nan"), True, True) is None
    assert "2 steps in a row were skipped" in watch.see(float("nan"), True, True)


def test_a_skipped_step_does_not_end_a_streak():
    watch = watched(STEADY)
    watch.see(9.0, False, True)
    watch.see(float("nan"), True, True)
    watch.see(9.0, False, True)
    assert watch.see(9.0, False, True) is not None
    assert watch.bad == 4


def test_weights_that_are_not_finite():
    assert "weights hold a NaN" in watched(STEADY).see(2.0, False, False)


def test_off():
    watch = SpikeWatch(SpikeRule(enabled=False))
    assert watch.see(2.0, False, False) is None


def test_the_state_comes_back():
    watch, other = watched(STEADY), SpikeWatch(RULE)
    watch.see(9.0, False, True)
    other.set_state(watch.get_state())
    assert other == watch


@pytest.mark.parametrize(
    "wrong", [{"window": 3}, {"patience": 0}, {"deviations": 0.0}, {"margin": -1}]
)
def test_a_rule_that_is_none(wrong):
    with pytest.raises(BadArgument, match=rf"rollback\.{next(iter(wrong))}="):
        SpikeRule(**wrong)
