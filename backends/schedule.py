"""The pass `schedule`: each kernel op gets its backend's default schedule."""

from dataclasses import dataclass
from typing import ClassVar

from backends.targets import find_target
from ir import mlir
from ir.passes.base import Pass


@dataclass(frozen=True)
class Schedule(Pass):
    """Put a `schedule` on every `kernel.grouped_matmul`, from the target's own model.

    target: the target whose model decides.
    """

    name: ClassVar[str] = "schedule"
    target: str = "cpu"

    def apply(self, module: mlir.Module) -> None:
        find_target(self.target).schedule(module)
