"""`moegen profile`: a time line for a function, one sentence for bad use."""

import json
from pathlib import Path

import pytest

from moegen.cli import main

_SOURCE = """import jax
import jax.numpy as jnp


def product(a, b):
    return jax.nn.relu(a @ b)
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(_SOURCE)
    return path


def test_a_function_gets_a_time_line_and_a_page(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    html = tmp_path / "out" / "page.html"
    argv = ["profile", f"{file}:product", "--target", "tpu-v5e", "--json"]
    argv += ["--args", "bf16[1024,1024]", "bf16[1024,1024]", "--html", str(html)]
    assert main(argv) == 0
    told = json.loads(capsys.readouterr().out)
    # 2 GFLOP at 197 TFLOP/s are 10.9 us: it cannot be faster.
    products = [op for op in told["ops"] if op["mxu_busy"]]
    assert 10.9 < sum(op["us"] for op in products) < 21.8
    assert told["ops"][0]["start_us"] == 0
    assert told["args"] == "bf16[1024,1024] bf16[1024,1024]"
    assert told["obtained"].startswith("estimated from the schedule compiled by libtpu")
    assert html.read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("name", "more", "said"),
    [
        ("{file}:produkt", ["--args", "f32[8]"], "did you mean 'product'"),
        ("{file}:product", ["--args", "f32[8"], "cannot read 'f32[8' in 'f32[8'"),
        ("{file}:product", ["--args", "f31[8]"], "f31[8] has no known dtype"),
        ("{file}:product", ["--args", "f32[0]"], "must be whole numbers from 1 on"),
        ("{file}", ["--args", "f32[8]"], "the function is FILE.py:FUNCTION"),
        ("{file}x.py:f", ["--args", "f32[8]"], "cannot be read: No such file"),
        ("{file}:product", ["--target", "tpu-v9"], "there is no target 'tpu-v9'"),
        ("{file}:product", ["--target", "cpu"], "choose one with --target tpu-v5e"),
        ("glam", ["--routing", "skewed"], "--routing takes balanced, uniform, zipf"),
        ("glam", ["--limit", "nan"], "--limit takes seconds, a number above 0"),
        ("glam", ["--limit", "inf"], "such as 600, and got inf"),
        ("glam", ["--limit", "-3"], "such as 600, and got -3"),
    ],
)
def test_bad_use_is_one_sentence(
    file: Path,
    name: str,
    more: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    target = [] if "--target" in more else ["--target", "tpu-v5e"]
    assert main(["profile", name.format(file=file), *target, *more]) == 2
    shown = capsys.readouterr()
    assert said in shown.err
    assert shown.out == ""
    assert shown.err.count("\n") == 1


def test_a_function_that_does_not_compile_says_why(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["profile", f"{file}:product", "--target", "tpu-v5e", "--args", "f32[8]"]
    assert main(argv) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert f"no schedule of {file}:product for tpu-v5e: TypeError" in told
    assert "missing 1 required positional argument: 'b'" in told


def test_a_layer_that_is_not_compiled_in_time_is_called_as_the_user_calls_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    argv = ["profile", "glam", "--target", "tpu-v5e", "--limit", "0.01"]
    assert main(argv) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert "no schedule of glam for tpu-v5e: it took longer than 0.01 s" in told


def test_a_page_that_cannot_be_written_is_refused_before_anything_is_compiled(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["profile", f"{file}:product", "--target", "tpu-v5e", "--args", "f32[8]"]
    assert main([*argv, "--html", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert told == f"moegen: --html {tmp_path} cannot be written: Is a directory\n"


def test_a_profile_that_fails_leaves_pages_as_they_were(
    file: Path, tmp_path: Path
) -> None:
    argv = ["profile", f"{file}:product", "--target", "tpu-v5e", "--args", "f32[8]"]
    old, new = tmp_path / "old.html", tmp_path / "new.html"
    old.write_text("an older page")
    assert main([*argv, "--html", str(old)]) == 2
    assert main([*argv, "--html", str(new)]) == 2
    assert old.read_text() == "an older page"
    assert not new.exists()
