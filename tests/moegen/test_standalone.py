"""Emitted modules run where moegen cannot be imported, and give the same bits."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import moegen
from moegen.layers import SHIPPED, find_layer
from tests.moegen import standalone
from tests.moegen.small import TINY, arguments, small, tiny

PACKAGE = "a package for a TPU"


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """By layer, the results in this process and in a child without moegen."""
    folder = tmp_path_factory.mktemp("standalone")
    ops = {name: tiny(name, folder / "cache") for name in SHIPPED}
    ops[PACKAGE] = moegen.compile(
        find_layer("hash"),
        "tpu-v5e",
        cache=folder / "cache",
        interpret=True,
        **small("hash", TINY, 4),
    )
    given = {name: tensors(op) for name, op in ops.items()}
    for name, arrays in given.items():
        np.savez(folder / f"{name}.given.npz", **arrays)
    paths = {name: str(op.path) for name, op in ops.items()}
    (folder / "cases.json").write_text(json.dumps(paths))
    child = shutil.copy(Path(standalone.__file__), folder / "child.py")
    # -I: neither this folder nor PYTHONPATH is searched. Both compile at the same time.
    with subprocess.Popen([sys.executable, "-I", child], cwd=folder) as running:
        here = {n: standalone.results(op.loaded, given[n]) for n, op in ops.items()}
        assert running.wait() == 0
    there = {name: dict(np.load(folder / f"{name}.got.npz")) for name in ops}
    return here, there


def tensors(op):
    """Everything that a run is given, under the names that `results` knows."""
    params, inputs = arguments(op)
    shape = next(iter(inputs.values())).shape
    random = np.random.default_rng(7)
    given = {"cotangent": random.standard_normal(shape).astype(np.float32)}
    given |= {f"p_{name}": np.asarray(value) for name, value in params.items()}
    return given | {f"i_{name}": np.asarray(value) for name, value in inputs.items()}


@pytest.mark.smoke
@pytest.mark.parametrize("name", [*SHIPPED, PACKAGE])
def test_same_bits_without_moegen(both, name):
    here, there = both[0][name], both[1][name]
    assert there.keys() == here.keys()
    assert len(here) > 4
    for tensor, value in here.items():
        assert there[tensor].tobytes() == value.tobytes(), tensor
        assert np.isfinite(value).all(), tensor
    still = {name for name, value in here.items() if not value.any()}
    assert still <= {"loss", "d_bias"}, "only a correction of choices has no gradient"


def test_the_wall_holds():
    with pytest.raises(ImportError, match="behind the wall"):
        standalone.Wall().find_spec("ir.mlir")
