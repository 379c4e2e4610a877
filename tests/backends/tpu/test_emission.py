"""Emitted TPU modules: interpreted against the oracle, compiled by libtpu."""

import ast
import importlib.util

import pytest

import moegen
from backends.chips import CHIPS
from backends.emitted import PACKAGE
from backends.tpu.compile import Argument, Job, compile_many, compile_one
from moegen.check import check
from moegen.layers import SHIPPED, find_layer
from moegen.plain import FORWARD, TRAINING, arrays, whole
from tests.moegen.small import small

LAYERS = list(SHIPPED)


@pytest.mark.parametrize("name", LAYERS)
def test_an_interpreted_layer_agrees_with_the_oracle(name, tmp_path):
    cases = check(
        find_layer(name),
        target="tpu-v5e",
        sizes=small(name),
        routings=["balanced", "zipf"],
        reruns=1,
        cache=tmp_path,
        interpret=True,
    )
    assert any(case.findings for case in cases)
    assert [f for case in cases for f in case.findings if not f.ok] == []


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("target", ["tpu-v4", "tpu-v6e"])
def test_kernels_that_fetch_rows_agree_with_the_oracle(dtype, target, tmp_path):
    """Widths of whole lanes of words: tokens and combined rows come by DMA."""
    layer = find_layer("mixtral")
    sizes = {"tokens": 70, "model": 256, "hidden": 512, "experts": 4, "k": 3}
    source = moegen.compile(layer, target, dtype, cache=tmp_path, **sizes).source
    assert "token_words(x)" in source
    assert "combine_rows(" in source
    cases = check(
        layer,
        target=target,
        dtype=dtype,
        sizes=sizes,
        routings=["balanced", "all dropped"],
        reruns=1,
        cache=tmp_path,
        interpret=True,
    )
    assert [f for case in cases for f in case.findings if not f.ok] == []


def test_a_last_block_that_holds_more_than_the_width_agrees_with_the_oracle(tmp_path):
    """200 and 300 columns in blocks of 128: rows, gradients, and sums over columns."""
    cases = check(
        find_layer("mixtral"),
        target="tpu-v5e",
        sizes={"tokens": 70, "model": 200, "hidden": 300, "experts": 4},
        routings=["balanced"],
        reruns=0,
        cache=tmp_path,
        interpret=True,
        schedule={"block_columns": 128, "block_left": 128, "block_right": 128},
    )
    assert [f for case in cases for f in case.findings if not f.ok] == []
    assert len(cases[0].findings) > 8


@pytest.mark.parametrize(
    ("layer", "dtype", "sizes"),
    [
        ("mixtral", "bfloat16", {"model": 257, "hidden": 257, "experts": 3}),
        ("mixtral", "bfloat16", {"model": 1, "hidden": 1, "experts": 4}),
        ("glam", "float32", {"model": 8, "hidden": 16, "experts": 8}),
    ],
)
def test_widths_that_fill_no_lanes_or_are_as_many_as_experts(
    layer, dtype, sizes, tmp_path
):
    cases = check(
        find_layer(layer),
        target="tpu-v4",
        dtype=dtype,
        sizes={"tokens": 24, **sizes},
        routings=["balanced"],
        reruns=0,
        cache=tmp_path,
        interpret=True,
    )
    assert [f for case in cases for f in case.findings if not f.ok] == []
    assert len(cases[0].findings) > 8


def test_a_module_imports_only_jax_and_its_rounding_is_the_weights(tmp_path):
    sizes = small("glam")
    op = moegen.compile(
        find_layer("glam"), "tpu-v4", "bfloat16", cache=tmp_path, **sizes
    )
    assert "COMPUTE_DTYPE = jnp.bfloat16" in op.emitted.beside["row_blocks.py"]
    assert "INTERPRET = False" in op.emitted.beside["rows.py"]
    sources = {n: t for n, t in op.emitted.beside.items() if n.endswith(".py")}
    for file, text in {PACKAGE: op.source, **sources}.items():
        imports = [
            n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.ImportFrom)
        ]
        theirs = {(n.module or "").split(".")[0] for n in imports if not n.level}
        assert theirs <= {"collections", "functools", "typing", "jax"}, file
        assert {f"{n.module}.py" for n in imports if n.level} <= sources.keys(), file


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("chip", [c.name for c in CHIPS.values() if c.kind == "tpu"])
def test_each_file_of_glam_is_short_enough_to_read(chip, dtype, tmp_path):
    op = moegen.compile(find_layer("glam"), chip, dtype, cache=tmp_path)
    for file, text in op.emitted.files("glam").items():
        lines = text.split("\n")
        if file.endswith(".py"):
            assert len(lines) <= 400, file
            assert max(map(len, lines)) <= 88, file


@pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed"
)
def test_libtpu_takes_gradients_of_widths_that_fill_no_lanes(tmp_path):
    jobs = []
    for model, hidden in ((257, 1000), (1, 1)):
        sizes = {"tokens": 64, "model": model, "hidden": hidden, "experts": 3}
        op = moegen.compile(
            find_layer("mixtral"), "tpu-v5e", "bfloat16", tmp_path, **sizes
        )
        path = whole(op).write(tmp_path, str(model))
        arguments = tuple(Argument(*held) for held in arrays(op))
        jobs.append(Job("v5e", str(path), TRAINING, arguments))
    for job, outcome in zip(jobs, compile_many(jobs), strict=True):
        assert outcome.legal, f"{job.file}: {outcome.reason}"


@pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed"
)
def test_libtpu_takes_sums_whose_rows_are_turned_in_little_memory(tmp_path):
    sizes = {"tokens": 16, "model": 768, "hidden": 3072, "experts": 4}
    op = moegen.compile(find_layer("glam"), "tpu-v4", "bfloat16", tmp_path, **sizes)
    arguments = tuple(Argument(*held) for held in arrays(op))
    path = whole(op).write(tmp_path, "glam")
    outcome = compile_one(Job("v4", str(path), TRAINING, arguments))
    assert outcome.legal, outcome.reason


@pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed"
)
def test_libtpu_takes_a_layer_on_all_chips(tmp_path):
    jobs = []
    sizes = {"tokens": 256, "model": 128, "hidden": 256, "experts": 8}
    for target in ("tpu-v4", "tpu-v5e", "tpu-v5p", "tpu-v6e", "tpu7x"):
        op = moegen.compile(
            find_layer("hash"), target, "bfloat16", cache=tmp_path, **sizes
        )
        path = whole(op).write(tmp_path, target)
        arguments = tuple(Argument(*held) for held in arrays(op))
        jobs.append(Job(target.removeprefix("tpu-"), str(path), FORWARD, arguments))
    for job, outcome in zip(jobs, compile_many(jobs), strict=True):
        assert outcome.legal, f"{job.chip}: {outcome.reason}"
