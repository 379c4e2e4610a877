import json

import pytest

from glam.family import MODELS
from glam.model import Config
from ir.errors import BadArgument

SMALL = {"layers": 4, "model": 32, "hidden": 64, "heads": 4, "head": 8}


@pytest.mark.parametrize("name", MODELS)
def test_models_of_the_paper(name):
    row, config = MODELS[name], Config.of(name)
    for size in ("layers", "model", "hidden", "heads", "head", "experts", "vocabulary"):
        assert getattr(config, size) == getattr(row, size)
    assert config.blocks * len(config.kinds) == config.layers


@pytest.mark.smoke
def test_defaults_are_those_of_the_facts():
    config = Config.of("8B/64E")
    assert (config.k, config.capacity_factor, config.groups) == (2, 2.0, 1)
    assert (config.activation, config.second_choice) == ("relu", "all")
    assert (config.parameter_dtype, config.activation_dtype) == ("float32", "bfloat16")
    assert (config.balance_weight, config.z_weight) == (0.01, 0.0)
    assert (config.sequence, config.kinds) == (1024, ("moe", "dense"))


def test_variants_by_argument():
    config = Config.of("1.7b/64e", experts=16, model=1024)
    assert (config.experts, config.model, config.hidden) == (16, 1024, 8192)


def test_a_dense_model_scans_single_layers():
    config = Config.of("137B")
    assert (config.kinds, config.blocks) == (("dense",), 64)


def test_json_there_and_back():
    config = Config(**SMALL, experts=8, layer="deepseek", layer_options={"shared": 16})
    document = json.loads(json.dumps(config.to_json()))
    assert document["layer_options"] == {"shared": 16}
    assert Config.from_json(document) == config
    assert hash(Config.from_json(document)) == hash(config)


def test_serving_drops_nothing():
    config = Config(**SMALL, experts=8, second_choice="random", remat="all").serving()
    assert (config.capacity_factor, config.second_choice) == (None, "all")
    assert config.remat == "none"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"layers": 0}, r"layers=0 must be a whole number of at least 1"),
        ({"heads": 2.0}, r"heads=2\.0 must be a whole number"),
        ({"model": True}, r"model=True must be a whole number"),
        ({"layers": 3}, r"layers=3: a model with experts is made of pairs"),
        ({"k": 9}, r"k=9 experts a token of experts=8"),
        ({"capacity_factor": 0}, r"capacity_factor=0 must be a number above 0"),
        ({"capacity_factor": float("nan")}, r"capacity_factor=nan must be a number"),
        ({"z_weight": -1.0}, r"z_weight=-1\.0 must be a number of at least 0"),
        ({"activation": "swish"}, r"activation='swish' must be one of relu, gelu"),
        ({"remat": None}, r"remat=None must be one of none, products, all"),
        ({"tile_rows": 0}, r"tile_rows=0 must be a whole number"),
        ({"layer": ""}, r"layer='' must be a name"),
        ({"layer_options": 3}, r"layer_options=3 must map names to numbers"),
        ({"layer_options": {"shared": "x"}}, r"'shared' is 'x' and must be a number"),
        ({"hiden": 64}, r"a model has no 'hiden'; .* did you mean 'hidden'\?"),
    ],
)
def test_what_is_refused(change, sentence):
    with pytest.raises(BadArgument, match=sentence):
        Config.from_json(SMALL | {"experts": 8} | change)


def test_what_is_missing():
    with pytest.raises(BadArgument, match="a model needs hidden, head: add"):
        Config.from_json({"layers": 2, "model": 8, "heads": 2})


def test_an_unknown_model():
    with pytest.raises(BadArgument, match=r"no model '8B/63E'.*mean '8B/64E'\?"):
        Config.of("8B/63E")
