"""The suites by name. Each module has TITLE and `run(setting)`, which yields rows."""

from collections.abc import Iterator
from importlib import import_module

from bench.result import Row
from bench.setting import Setting

SUITES = (
    "forward",
    "training",
    "ragged",
    "einsum",
    "gated",
    "tiles",
    "skew",
    "decode",
    "scaling",
    "latency",
)


def title(name: str) -> str:
    """What a suite compares, in one line."""
    return str(import_module(f"bench.suites.{name}").TITLE)


def rows(name: str, setting: Setting) -> Iterator[Row]:
    """The suite's rows, each as soon as it is measured."""
    found: Iterator[Row] = import_module(f"bench.suites.{name}").run(setting)
    return found
