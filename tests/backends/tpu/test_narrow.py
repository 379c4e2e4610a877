"""Matrices of one byte by the TPU's kernels: bytes, memory, races, what libtpu says."""

import importlib.util
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import moegen
from backends.chips import CHIPS
from backends.tpu.compile import Argument, Job, compile_many
from backends.tpu.kernel_ops import grouped_kernels
from backends.tpu.kernel_time import seconds
from backends.tpu.narrow import SLOW, narrow_way
from backends.tpu.schedule import Blocks, Work, hbm_bytes, tiles_of
from bench.ahead import Shape
from bench.traffic import ours
from ir import mlir
from moegen.check import check
from moegen.layers import find_layer
from moegen.plain import FORWARD, arrays, whole
from tests.backends.tpu.test_races import interpreter, watched

TPUS = [chip for chip in CHIPS.values() if chip.kind == "tpu"]
SIZES = {"tokens": 70, "model": 256, "hidden": 384, "experts": 4, "k": 3}
DECODE = Work("rows", 256, 128, 2048, 768, 2, 2, tokens=2, results=2)


@pytest.mark.parametrize("chip", TPUS, ids=lambda chip: chip.name)
def test_how_a_chip_multiplies(chip):
    assert narrow_way("bfloat16", "bfloat16", chip) == ""
    assert narrow_way("float8_e4m3fn", "bfloat16", chip) == "direct"
    slow = "by block" if chip.name == "tpu-v4" else "by chunk"
    assert narrow_way("int8", "bfloat16", chip) == slow
    assert narrow_way("int8", "float32", chip) == slow
    assert ("fp8" in chip.narrow) == (chip.name != "tpu-v4")
    assert "int8" in chip.narrow


@pytest.mark.parametrize(
    ("target", "dtype", "weights", "way"),
    [
        ("tpu-v4", "bfloat16", "int8", "by block"),
        ("tpu-v5e", "float32", "int8", "by chunk"),
        ("tpu7x", "bfloat16", "fp8", "direct"),
    ],
)
@pytest.mark.parametrize("out_first", [True, False])
def test_gated_experts_agree_with_the_oracle(
    target, dtype, weights, way, out_first, tmp_path
):
    """Kernels fetch rows, two right-hand sides, both layouts of matrices."""
    layer, sizes = find_layer("mixtral"), SIZES | {"out_first": out_first}
    op = moegen.compile(layer, target, dtype, tmp_path, weights=weights, **sizes)
    assert f'NARROW = "{way}"' in op.emitted.beside["row_blocks.py"]
    assert "token_words(x)" in op.source
    cases = check(
        layer,
        target=target,
        dtype=dtype,
        sizes=sizes,
        routings=["zipf"],
        reruns=1,
        cache=tmp_path,
        interpret=True,
        weights=weights,
    )
    assert [f for case in cases for f in case.findings if not f.ok] == []


def test_matrices_are_half_the_bytes():
    blocks = Blocks(2048, 768, fetches=True)
    narrow = replace(DECODE, narrow=True, biases=8)
    touched = tiles_of(DECODE, 16)  # experts that any of 256 rows go to
    scales = 8 * touched * 768
    matrices = 2 * touched * 2048 * 768
    wide, found = hbm_bytes(DECODE, 16, blocks), hbm_bytes(narrow, 16, blocks)
    assert wide - found == matrices - scales
    assert seconds(narrow, 16, blocks, CHIPS["tpu-v6e"]) < 0.55 * seconds(
        DECODE, 16, blocks, CHIPS["tpu-v6e"]
    )


def test_the_model_of_time_counts_conversions_by_block():
    blocks = Blocks(2048, 768)
    chip, narrow = CHIPS["tpu-v4"], replace(DECODE, narrow=True)
    converted = 2 * tiles_of(DECODE, 16) * 2048 * 768 / SLOW["tpu-v4"]
    assert seconds(narrow, 16, blocks, chip) > converted
    assert seconds(narrow, 16, blocks, chip) > seconds(DECODE, 16, blocks, chip)


def test_traffic_of_a_decoding_layer_halves():
    sizes = {"tokens": 16, "model": 1024, "hidden": 2048, "experts": 8, "k": 2}
    shape = Shape("decoding", "mixtral", sizes)
    for chip in ("tpu-v4", "tpu-v6e"):
        wide, _ = ours(shape, chip, training=False)
        narrow, _ = ours(shape, chip, training=False, weights="int8")
        # Half of the weights' bytes; activations, and so the combine, stay wide.
        assert 0.5 < narrow / wide < 0.525


@pytest.mark.parametrize(("target", "wide"), [("tpu-v4", 2), ("tpu-v6e", 0)])
def test_blocks_that_are_converted_ahead_count_as_memory(target, wide, tmp_path):
    op = moegen.compile(
        find_layer("mixtral"), target, "bfloat16", tmp_path, weights="int8", **SIZES
    )
    module = mlir.parse(list(op.stages.values())[-1])
    first = grouped_kernels(module)[0]
    buffers = first.buffers(first.schedule, CHIPS[target])
    weights = [b for b in buffers if b.what == "weights"]
    converted = [b for b in buffers if b.what == "converted weights"]
    assert [b.dtype for b in weights] == ["int8", "int8"]
    assert len(converted) == wide
    assert all(b.dtype == "bfloat16" for b in converted)
    assert all(b.shape == weights[0].shape for b in converted)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "weights"), [("tpu-v4", "int8"), ("tpu-v5e", "int8"), ("tpu7x", "fp8")]
)
def test_kernels_have_no_races_and_read_only_what_was_written(
    target, weights, tmp_path
):
    """The same bits as of plain interpretation, which agrees with the oracle."""
    module = watched("mixtral", target, tmp_path, weights=weights)
    params = module.quantise(module.init(jax.random.key(0)))
    x = jax.random.normal(jax.random.key(1), (12, 256)).astype(jnp.bfloat16)
    found = np.asarray(jax.jit(lambda p, x: module.layer(p, x)[0])(params, x))
    assert not interpreter.races.races_found
    assert np.isfinite(found.astype(np.float32)).all()
    plain = moegen.compile(
        find_layer("mixtral"),
        target,
        "bfloat16",
        tmp_path,
        interpret=True,
        weights=weights,
        tokens=12,
        model=256,
        hidden=256,
        experts=3,
    )
    np.testing.assert_array_equal(found, jax.jit(plain)(params, x)[0])


@pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed"
)
def test_libtpu_takes_narrow_weights_on_every_chip_that_has_them(tmp_path):
    """Widths that are no whole tiles of 32 sublanes of bytes, nor whole lanes."""
    sizes = {"tokens": 64, "model": 128, "hidden": 72, "experts": 4}
    cases = [(chip.name, weights) for chip in TPUS for weights in chip.narrow]
    jobs = []
    for target, weights in cases:
        op = moegen.compile(
            find_layer("hash"), target, "bfloat16", tmp_path, weights=weights, **sizes
        )
        path = whole(op).write(tmp_path, f"{target}_{weights}")
        arguments = tuple(Argument(*held) for held in arrays(op))
        jobs.append(Job(target.removeprefix("tpu-"), str(path), FORWARD, arguments))
    for case, outcome in zip(cases, compile_many(jobs), strict=True):
        assert outcome.legal, f"{case}: {outcome.reason}"
