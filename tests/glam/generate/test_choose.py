import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glam.generate.choose import choose
from glam.generate.settings import Search, Settings
from ir.errors import BadArgument

LOGITS = jnp.log(jnp.array([[0.1, 0.4, 0.2, 0.05, 0.25]]))
DRAWS = 4000


def shares(settings, logits=LOGITS):
    """How often each token is drawn."""
    keys = jax.random.split(jax.random.key(0), DRAWS)
    rows = jnp.broadcast_to(logits, (DRAWS, logits.shape[1]))
    drawn = np.asarray(choose(settings, rows, keys))
    return np.bincount(drawn, minlength=logits.shape[1]) / DRAWS


def close(found, wanted):
    np.testing.assert_allclose(found, wanted, atol=0.03)


def test_greedy_takes_the_best_and_the_lower_of_equals():
    logits = jnp.array([[0.0, 2.0, 1.0], [3.0, 1.0, 3.0]])
    keys = jax.random.split(jax.random.key(0), 2)
    assert choose(Settings(), logits, keys).tolist() == [1, 0]


def test_temperature():
    close(shares(Settings(temperature=1.0)), [0.1, 0.4, 0.2, 0.05, 0.25])
    sharp = np.array([0.1, 0.4, 0.2, 0.05, 0.25]) ** 2
    close(shares(Settings(temperature=0.5)), sharp / sharp.sum())


def test_top_k_keeps_the_best():
    settings = Settings(temperature=1.0, top_k=2)
    close(shares(settings), np.array([0, 0.4, 0, 0, 0.25]) / 0.65)


def test_top_p_keeps_the_fewest_that_hold_the_mass():
    close(shares(Settings(temperature=1.0, top_p=0.39)), [0, 1, 0, 0, 0])
    two = np.array([0, 0.4, 0, 0, 0.25]) / 0.65
    close(shares(Settings(temperature=1.0, top_p=0.6)), two)
    close(shares(Settings(temperature=1.0, top_p=1e-6)), [0, 1, 0, 0, 0])


def test_top_k_comes_before_top_p():
    # Of 0.4, 0.25 and 0.2 the first two hold 0.76 of what the three have.
    settings = Settings(temperature=1.0, top_k=3, top_p=0.7)
    close(shares(settings), np.array([0, 0.4, 0, 0, 0.25]) / 0.65)


def test_a_top_k_beyond_the_vocabulary_keeps_all():
    close(shares(Settings(temperature=1.0, top_k=50)), [0.1, 0.4, 0.2, 0.05, 0.25])


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_row_with_nan_gives_no_token(temperature):
    logits = jnp.array([[0.0, jnp.nan, 1.0], [9.0, -jnp.inf, 1.0]])
    keys = jax.random.split(jax.random.key(0), 2)
    chosen = choose(Settings(temperature=temperature), logits, keys)
    assert chosen.tolist() == [-1, 0]


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Settings(tokens=0), "tokens=0 must be a whole number"),
        (lambda: Settings(temperature=-1.0), "temperature=-1.0 must be 0"),
        (lambda: Settings(temperature=float("nan")), "temperature=nan must be 0"),
        (lambda: Settings(top_k=0), "top_k=0 must be a whole number"),
        (lambda: Settings(top_p=0.0), "top_p=0.0 must be above 0"),
        (lambda: Settings(top_p=1.5), "top_p=1.5 must be above 0 and at most 1"),
        (lambda: Search(width=0), "width=0 must be a whole number"),
        (lambda: Search(penalty=-0.1), "penalty=-0.1 must be a number of at least 0"),
    ],
)
def test_what_is_refused(make, sentence):
    with pytest.raises(BadArgument, match=sentence):
        make()
