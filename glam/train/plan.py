"""What a run does, whatever it trains: the sections of its settings that say so."""

from dataclasses import asdict, dataclass, field
from math import isfinite
from typing import Any, NoReturn

from glam.train.schedule import InverseSquareRoot
from glam.train.spike import SpikeRule
from ir.errors import BadArgument


def _at_least(where: str, name: str, value: int, least: int) -> None:
    if value < least:
        _refuse(f"{where}.{name}={value} must be at least {least}")


def _refuse(reason: str) -> NoReturn:
    raise BadArgument(reason=reason)


@dataclass(frozen=True)
class TrainSettings:
    """[train]: `steps` of `batch` sequences each, in `accumulate` parts.

    `seed` sets the first weights, the order of the data and what is random in a step.
    Every `validate` steps, and at the end, the loss of `validation_batches` held-out
    batches is taken; 0 means never. `devices` is how many devices a run of
    one process shares its CPU among, unless the command line says so: XLA runs most
    operations of a CPU device on one core.
    """

    steps: int
    batch: int = 8
    accumulate: int = 1
    seed: int = 0
    validate: int = 0
    validation_batches: int = 8
    devices: int = 1

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "accumulate", "validation_batches", "devices"):
            _at_least("train", name, getattr(self, name), 1)
        for name in ("seed", "validate"):
            _at_least("train", name, getattr(self, name), 0)


@dataclass(frozen=True)
class OptimizerSettings:
    """[optimizer]: Adafactor's learning rate, `peak` for `plateau` steps, then falling.

    Second moments are factored where both axes have `least_factored` elements.
    """

    peak: float = 0.01
    plateau: int = 10_000
    least_factored: int = 128

    def __post_init__(self) -> None:
        if not (isfinite(self.peak) and self.peak > 0):
            _refuse(f"optimizer.peak={self.peak} must be a finite number above 0")
        for name in ("plateau", "least_factored"):
            _at_least("optimizer", name, getattr(self, name), 1)

    @property
    def schedule(self) -> InverseSquareRoot:
        return InverseSquareRoot(self.peak, self.plateau)


@dataclass(frozen=True)
class CheckpointSettings:
    """[checkpoint]: one every `every` steps, of which the last `keep` are kept."""

    every: int = 100
    keep: int = 3

    def __post_init__(self) -> None:
        for name in ("every", "keep"):
            _at_least("checkpoint", name, getattr(self, name), 1)


@dataclass(frozen=True)
class Plan:
    """The sections that shape a run, checked against each other."""

    train: TrainSettings
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    checkpoint: CheckpointSettings = field(default_factory=CheckpointSettings)
    rollback: SpikeRule = field(default_factory=SpikeRule)

    def __post_init__(self) -> None:
        reach = (self.checkpoint.keep - 1) * self.checkpoint.every
        if self.rollback.enabled and reach < self.rollback.margin:
            _refuse(
                f"rollback.margin={self.rollback.margin} steps reaches past the oldest "
                f"of checkpoint.keep={self.checkpoint.keep} checkpoints, one every "
                f"{self.checkpoint.every} steps: keep more, or lower the margin"
            )

    def check_devices(self, devices: int) -> None:
        """Refuse a batch that does not divide over its parts and the devices."""
        unit = self.train.accumulate * devices
        if self.train.batch % unit:
            _refuse(
                f"a batch of {self.train.batch} sequences cannot be divided over "
                f"{devices} devices in {self.train.accumulate} parts: make train.batch "
                f"a multiple of {unit}"
            )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
