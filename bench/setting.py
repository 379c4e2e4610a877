"""What a run is asked to measure: sizes, dtypes, effort, and where PyTorch is."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from bench.timing import Effort

SIZES = ("tokens", "model", "hidden", "experts", "k")


@dataclass(frozen=True)
class Setting:
    """The defaults are the sizes of one layer of GLaM's 0.1B/64E."""

    tokens: int = 2048
    model: int = 768
    hidden: int = 3072
    experts: int = 64
    k: int = 2
    dtypes: tuple[str, ...] = ("float32", "bfloat16")
    effort: Effort = field(default_factory=Effort)
    torch_python: Path | None = None
    decode_tokens: tuple[int, ...] = (1, 4, 16)
    scaling_experts: tuple[int, ...] = (8, 64, 256)

    @property
    def sizes(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in SIZES}

    def quick(self) -> "Setting":
        """Small sizes and few samples: shows that all of it works, proves no speed."""
        return replace(
            self,
            tokens=64,
            model=32,
            hidden=64,
            experts=8,
            effort=Effort(least=3, most=3, budget=1.0),
            decode_tokens=(1, 4),
            scaling_experts=(4, 8),
        )
