"""The generated pages are current, and the README does what it says."""

import re
import shlex
from pathlib import Path

import pytest

from ir.op import OPS
from ir.reference import reference as ir_reference
from moegen.cli import main
from moegen.error_reference import reference as error_reference

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_ir_reference_is_current() -> None:
    assert (ROOT / "docs/ir.md").read_text(encoding="utf-8") == ir_reference()


def test_error_reference_is_current() -> None:
    assert (ROOT / "docs/errors.md").read_text(encoding="utf-8") == error_reference()


def test_every_op_is_documented() -> None:
    assert all(op.__doc__ and op.OPERANDS for op in OPS.values())


def test_readme_python_runs(capsys: pytest.CaptureFixture[str]) -> None:
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), {})
    assert "kernel.grouped_matmul" in capsys.readouterr().out


COMMANDS = [line for block in blocks("console") for line in block.splitlines()]


@pytest.mark.parametrize("line", COMMANDS)
def test_readme_commands_run(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    program, *arguments = shlex.split(line)
    if program == "glam":
        from glam.cli import main as glam_main

        assert glam_main(arguments) == 0
    else:
        assert main(arguments) == 0
