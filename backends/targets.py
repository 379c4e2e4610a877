"""The targets, and what each backend offers the compiler."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from ir import mlir
from ir.errors import UnknownTarget, nearest

_EMITTERS: Mapping[str, str] = {"cpu": "backends.cpu.emit:emit"}
_SCHEDULERS: Mapping[str, str] = {"cpu": "backends.cpu.scheduling:schedule_module"}


@dataclass(frozen=True)
class Target:
    """One target: its name, and how to schedule and emit for it."""

    name: str

    @property
    def emit(self) -> Callable[[mlir.Module], str]:
        return _load(_EMITTERS[self.name])

    @property
    def schedule(self) -> Callable[[mlir.Module], None]:
        return _load(_SCHEDULERS[self.name])


TARGETS: Mapping[str, Target] = {"cpu": Target("cpu")}


def find_target(name: str) -> Target:
    """The target of that name; raises `UnknownTarget` with the nearest."""
    if name not in TARGETS:
        listed = ", ".join(TARGETS)
        close = nearest(name, list(TARGETS))
        raise UnknownTarget(target=name, targets=listed, nearest=close)
    return TARGETS[name]


def _load(place: str) -> Callable[..., Any]:
    module, _, name = place.partition(":")
    loaded: Callable[..., Any] = getattr(import_module(module), name)
    return loaded
