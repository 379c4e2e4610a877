import os
import subprocess
import sys

import pytest

import moegen
from ir.errors import BadArgument
from moegen.cli import targets
from moegen.cli.program import guarded

_QUICK = """
import sys
from moegen.cli import main
code = main(sys.argv[1:])
heavy = {"jax", "jaxlib", "numpy"} & set(sys.modules)
sys.exit(f"imported {heavy}" if heavy else code)
"""


_TARGETS = "import sys; from moegen.cli import main; sys.exit(main(['targets']))"


def _python(*argv, stdout=subprocess.PIPE):
    command = [sys.executable, "-c", *argv]
    return subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True)


@pytest.mark.smoke
def test_help_imports_nothing_heavy():
    ran = _python(_QUICK, "--help")
    assert ran.returncode == 0, ran.stderr
    assert "example: moegen compile glam" in ran.stdout


@pytest.mark.parametrize("command", ["compile", "inspect", "opt", "targets"])
def test_help_of_every_command_has_an_example(run, command):
    ran = run(command, "--help")
    assert ran.code == 0
    assert f"example: moegen {command}" in ran.out


def test_without_a_command_help_and_exit_2(run):
    ran = run()
    assert ran.code == 2
    assert ran.out.startswith("usage: moegen")


def test_version(run):
    assert run("--version").out.strip() == moegen.__version__


def test_bad_use_is_one_sentence(run):
    ran = run("compile")
    assert ran.code == 2
    assert ran.err == (
        "moegen: the following arguments are required: LAYER; "
        "see 'moegen compile --help'\n"
    )


def test_an_unknown_command(run):
    ran = run("compiel")
    assert ran.code == 2
    assert ran.err.startswith("moegen: argument COMMAND: invalid choice: 'compiel'")
    assert ran.err.count("\n") == 1


def test_an_error_of_ours_is_one_line(capsys):
    def work():
        raise BadArgument(reason="two\nlines")

    assert guarded("moegen", work) == 2
    assert capsys.readouterr().err == "moegen: two lines\n"


def test_an_error_of_the_system_is_one_line(capsys):
    assert guarded("moegen", lambda: len(os.listdir("/no/such"))) == 2
    assert capsys.readouterr().err == ("moegen: /no/such: No such file or directory\n")


def test_ctrl_c(run, monkeypatch):
    def interrupt(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(targets, "run", interrupt)
    ran = run("targets")
    assert ran.code == 130
    assert ran.err == "moegen: interrupted\n"


def test_the_accelerator_is_left_alone_unless_asked_for(run, monkeypatch):
    monkeypatch.delenv("JAX_PLATFORMS")
    run("--version")
    assert os.environ["JAX_PLATFORMS"] == "cpu"


def test_a_reader_that_leaves():
    reader, writer = os.pipe()
    os.close(reader)
    ran = _python(_TARGETS, stdout=writer)
    os.close(writer)
    assert ran.returncode == 141
    assert ran.stderr == ""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_disk():
    with open("/dev/full", "w") as full:
        ran = _python(_TARGETS, stdout=full)
    assert ran.returncode == 2
    assert ran.stderr == "moegen: No space left on device\n"
