"""The targets, and what each backend offers the compiler."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from backends.chips import CHIPS
from ir import mlir
from ir.errors import UnknownTarget, nearest


@dataclass(frozen=True)
class Target:
    """One target: its name, and how to schedule and emit for it.

    `cuts` says that programs of experts are cut at their products (see `cut`).
    """

    name: str
    cuts: bool = False

    def schedule(self, module: mlir.Module) -> None:
        """Put the target's default schedule on the kernel ops."""
        if self.cuts:
            _load("backends.tpu.scheduling").schedule_module(module, self.name)
            return
        _load("backends.cpu.scheduling").schedule_module(module)

    def emit(self, module: mlir.Module, interpret: bool = False) -> str:
        """The module's source; with `interpret` it runs on any machine."""
        if self.cuts:
            tpu: str = _load("backends.tpu.emit").emit(module, self.name, interpret)
            return tpu
        cpu: str = _load("backends.cpu.emit").emit(module)
        return cpu


TARGETS: Mapping[str, Target] = {
    "cpu": Target("cpu"),
    **{c.name: Target(c.name, cuts=True) for c in CHIPS.values() if c.kind == "tpu"},
}


def find_target(name: str) -> Target:
    """The target of that name; raises `UnknownTarget` with the nearest."""
    if name not in TARGETS:
        listed = ", ".join(TARGETS)
        close = nearest(name, list(TARGETS))
        raise UnknownTarget(target=name, targets=listed, nearest=close)
    return TARGETS[name]


def _load(module: str) -> Any:
    # Imported when used: a command for one target does not pay for the others.
    return import_module(module)
