import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from glam.family import MODELS, count
from glam.model import Config
from glam.train.language_model import flops_a_token, language_model, parameters
from glam.train.settings import read_settings
from ir.errors import BadArgument

EXAMPLE = Path(__file__).parents[3] / "examples" / "tiny.toml"
SMALL = Config(
    layers=2, model=8, hidden=16, heads=2, head=4, experts=4, vocabulary=32, groups=4
)


@pytest.mark.parametrize("name", ["0.1B", "0.1B/64E"])
def test_parameters_and_flops_of_the_family(name):
    config, made = Config.of(name, sequence=1023), count(MODELS[name])
    assert parameters(config) == (made.total, made.activated)
    products = made.activated - made.norms - made.relative_bias
    attention = 12 * config.layers * config.heads * config.head * 512
    assert flops_a_token(config) == pytest.approx(6 * products + attention)


def test_parts_share_the_groups_of_a_batch():
    with pytest.raises(BadArgument, match=r"in 3 parts .* its 4 routing groups cannot"):
        language_model(SMALL, 3)
    assert language_model(SMALL, 2).identity == language_model(SMALL, 4).identity
    language_model(replace(SMALL, capacity_factor=None), 3)


def test_layers_are_stacked_and_nothing_else():
    stacked = language_model(SMALL, 1).stacked
    assert stacked["blocks"]["moe"]["feed_forward"]["wi"]
    assert not stacked["embedding"]
    assert not stacked["final_norm"]


def test_the_identity_is_what_weights_depend_on():
    own = language_model(SMALL, 1).identity
    assert language_model(replace(SMALL, balance_weight=0.5), 1).identity == own
    assert language_model(replace(SMALL, activation="gelu"), 1).identity != own


def test_the_example_is_read():
    settings = read_settings(EXAMPLE, ["train.steps=7"], None)
    assert settings.out == Path("runs/tiny")
    assert (settings.plan.train.steps, settings.model.experts) == (7, 8)
    written = tomllib.loads(EXAMPLE.read_text())["optimizer"]
    assert written.items() <= settings.to_json()["optimizer"].items()
