"""Running a command in this process, and the sizes of a layer that compiles quickly."""

from dataclasses import dataclass

import pytest

from moegen.cli import main

TINY = ("--set", "tokens=16", "model=8", "hidden=16", "experts=4")


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


@pytest.fixture
def run(capsys):
    """`run("targets", "--json")`: the exit code, standard output and standard error."""

    def call(*argv):
        code = main([str(item) for item in argv])
        told = capsys.readouterr()
        return Ran(code, told.out, told.err)

    return call


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def tiny(cache):
    """GLaM's layer and options that make it small."""
    return ("glam", "--target", "cpu", *TINY, "--cache", cache)
