import json
from dataclasses import replace

import jax
import numpy as np
import pytest

from glam.interchange import load, named, save
from glam.model import abstract
from ir.errors import BadArgument
from tests.glam.model import small

CONFIG = small.CONFIG


def test_there_and_back_bit_for_bit(tmp_path):
    save(CONFIG, small.params(), tmp_path)
    config, params = load(tmp_path)
    assert config == CONFIG
    before, after = named(small.params()), named(params)
    assert list(before) == list(after)
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert jax.tree.structure(params) == jax.tree.structure(small.params())
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "config.json",
        "model.safetensors",
    ]


def test_bfloat16_parameters(tmp_path):
    config = replace(CONFIG, parameter_dtype="bfloat16")
    narrow = jax.tree.map(
        lambda array, kind: array.astype(kind.dtype), small.params(), abstract(config)
    )
    save(config, narrow, tmp_path)
    found, params = load(tmp_path)
    assert found == config
    for name, array in named(params).items():
        assert (array.dtype == "bfloat16") == (not name.endswith("router"))
        assert np.array_equal(array, named(narrow)[name])


def test_a_tensor_that_is_not_read_or_written_is_named(tmp_path):
    from safetensors.numpy import load_file, save_file

    save(CONFIG, small.params(), tmp_path)
    path = tmp_path / "model.safetensors"
    arrays = load_file(path)
    save_file(arrays | {"extra": np.zeros(2, np.float32)}, path)
    with pytest.raises(BadArgument, match="no parameter for the tensor extra"):
        load(tmp_path)
    name = "blocks.moe.feed_forward.wi"
    save_file({n: a for n, a in arrays.items() if n != name}, path)
    with pytest.raises(BadArgument, match=f"parameter {name} is missing"):
        load(tmp_path)
    save_file(arrays | {name: arrays[name][:1]}, path)
    with pytest.raises(BadArgument, match=rf"{name} is float32\[1, 8, 24, 16\], and"):
        load(tmp_path)


def test_parameters_of_another_model_are_not_saved(tmp_path):
    with pytest.raises(BadArgument, match="the tensor embedding is"):
        save(replace(CONFIG, vocabulary=41), small.params(), tmp_path)
    assert not list(tmp_path.iterdir())


def test_damaged_files(tmp_path):
    with pytest.raises(BadArgument, match=r"config\.json is missing"):
        load(tmp_path)
    save(CONFIG, small.params(), tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(
        BadArgument, match=r"cannot be read: .*; it is cut off or altered"
    ):
        load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"layres": 2}))
    with pytest.raises(BadArgument, match="a model has no 'layres'"):
        load(tmp_path)
