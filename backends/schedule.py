"""The pass `schedule`: each kernel op gets a schedule that is legal for its target."""

from dataclasses import dataclass
from typing import ClassVar

from backends.schedule_choices import read_choices
from backends.targets import find_target
from ir import mlir
from ir.passes.base import Pass


@dataclass(frozen=True)
class Schedule(Pass):
    """Put a `schedule` on every kernel op: what the user chose, then the model's.

    target: the target whose model and rules decide.
    choices: fields to set, such as grouped_rows.tile_rows=256;fetches=false. What is
    on an op already counts as chosen.
    """

    name: ClassVar[str] = "schedule"
    target: str = "cpu"
    choices: str = ""

    def apply(self, module: mlir.Module) -> None:
        find_target(self.target).schedule(module, read_choices(self.choices))
