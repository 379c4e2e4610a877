"""What a pass is."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from ir import mlir


@dataclass(frozen=True)
class Pass(ABC):
    """A rewriting of a module; its fields are its options, on the command line too.

    The module verifies before and after. `apply` changes a copy that the driver made.
    """

    name: ClassVar[str]

    @abstractmethod
    def apply(self, module: mlir.Module) -> None:
        """Rewrite `module` in place."""
