import io
import sys

import pytest

from ir import mlir


@pytest.fixture(scope="module")
def traced(tmp_path_factory):
    """A file with the traced module of a small layer."""
    from moegen.layers import find_layer
    from moegen.trace import trace

    module = trace(find_layer("glam"), tokens=16, model=8, hidden=16, experts=4)
    file = tmp_path_factory.mktemp("ir") / "trace.mlir"
    file.write_text(mlir.print_module(module))
    return file


def test_the_whole_way_equals_compile(run, tiny, traced, tmp_path):
    run("compile", *tiny, "--dump-ir", tmp_path)
    passes = (
        "canonicalize,derive-backward{keep=true},canonicalize,fuse,canonicalize,"
        "schedule{target=cpu}"
    )
    ran = run("opt", traced, "--passes", passes)
    assert ran.code == 0
    assert ran.out == (tmp_path / "06-schedule.mlir").read_text()


def test_from_standard_input_in_two_steps(run, traced, monkeypatch):
    first = run("opt", traced, "--passes", "canonicalize").out
    stream = io.TextIOWrapper(io.BytesIO(first.encode()))
    monkeypatch.setattr(sys, "stdin", stream)
    second = run("opt", "-", "--passes", "fuse")
    assert second.code == 0
    assert second.out == run("opt", traced, "--passes", "canonicalize,fuse").out


def test_without_passes_it_prints_what_it_read(run, traced):
    assert run("opt", traced).out == traced.read_text()


def test_no_locations(run, traced):
    ran = run("opt", traced, "--no-locations")
    assert "loc(" not in ran.out
    assert mlir.parse(ran.out)


def test_list(run):
    ran = run("opt", "--list")
    assert ran.code == 0
    assert "derive-backward: Add `forward_residuals` and `backward`" in ran.out
    assert "  keep: bool = true\n" in ran.out
    assert "  target: str = cpu\n" in ran.out


@pytest.mark.parametrize(
    ("passes", "sentence"),
    [
        (
            "fues",
            "there is no pass 'fues'; the passes are canonicalize, ",
        ),
        ("fuse{tile=3}", "the pass 'fuse' has no option 'tile'; its options are none"),
        (
            "derive-backward{keep=3}",
            "the option keep=3 of the pass 'derive-backward' is not true or false",
        ),
        ("schedule{target=gpu}", "there is no target 'gpu'; the targets are host, cpu"),
    ],
)
def test_bad_passes(run, traced, passes, sentence):
    ran = run("opt", traced, "--passes", passes)
    assert ran.code == 2
    assert ran.out == ""
    assert sentence in ran.err
    assert ran.err.count("\n") == 1


def test_a_missing_file(run):
    ran = run("opt", "gone.mlir", "--passes", "fuse")
    assert ran.code == 2
    assert ran.err == (
        "moegen: the IR cannot be read at gone.mlir: No such file or directory\n"
    )


def test_no_file(run):
    ran = run("opt", "--passes", "fuse")
    assert ran.code == 2
    assert "opt takes a FILE of printed IR, or - for standard input" in ran.err


def test_text_that_is_no_ir(run, tmp_path):
    file = tmp_path / "bad.mlir"
    file.write_text("module {\n  nonsense\n}\n")
    ran = run("opt", file)
    assert ran.code == 2
    assert f"the IR cannot be read at {file}:2:3: " in ran.err


def test_bytes_that_are_no_text(run, tmp_path):
    file = tmp_path / "bad.mlir"
    file.write_bytes(b"\xff\xfe\x00")
    ran = run("opt", file)
    assert ran.code == 2
    assert f"the IR cannot be read at {file}: it is not UTF-8 text" in ran.err


@pytest.mark.parametrize(
    ("text", "passes", "reason"),
    [
        ("", "fuse", "it has no function 'forward'"),
        ("", "quantise", "it has no function 'forward'"),
        ("func.func private @g()", "canonicalize", "the function 'g' has no body"),
        (
            "func.func @forward(%a: tensor<2xf32>) { return }",
            "derive-backward",
            "the function 'forward' does not say what its arguments are",
        ),
    ],
)
def test_ir_that_is_no_layer(run, tmp_path, text, passes, reason):
    file = tmp_path / "other.mlir"
    file.write_text(text)
    ran = run("opt", file, "--passes", passes)
    assert ran.code == 2
    assert ran.err == f"moegen: the IR cannot be read at {file}: {reason}\n"
