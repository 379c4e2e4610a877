"""The settings of a run, section by section, with what each key means."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from math import isfinite
from pathlib import Path
from typing import Any, NoReturn

from glam.model.config import Config
from glam.train.schedule import InverseSquareRoot
from glam.train.spike import SpikeRule
from glam.train.toml_table import check_names, override, read_toml, section
from ir.errors import BadArgument


@dataclass(frozen=True)
class DataSettings:
    """[data]: `source` is what `glam.data.batches` takes: a name, a path, a mixture.

    `tokenizer` is "bytes" or the path of a SentencePiece model. `fraction` of the
    documents are held out for validation.
    """

    source: str
    tokenizer: str = "bytes"
    fraction: float = 0.05

    def __post_init__(self) -> None:
        if not 0 <= self.fraction < 1:
            _refuse(f"data.fraction={self.fraction} must lie in 0..1, 1 excluded")


@dataclass(frozen=True)
class TrainSettings:
    """[train]: `steps` of `batch` sequences each, in `accumulate` parts.

    `seed` sets the first weights, the order of the data and what is random in a step.
    Every `validate` steps, and at the end, the loss of `validation_batches` held-out
    batches is taken; 0 means never.
    """

    steps: int
    batch: int = 8
    accumulate: int = 1
    seed: int = 0
    validate: int = 0
    validation_batches: int = 8

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "accumulate", "validation_batches"):
            _at_least("train", name, getattr(self, name), 1)
        for name in ("seed", "validate"):
            _at_least("train", name, getattr(self, name), 0)
        if self.batch % self.accumulate:
            _refuse(
                f"train.batch={self.batch} cannot be divided into accumulate="
                f"{self.accumulate} parts: make it a multiple"
            )


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
class MetricsSettings:
    """[metrics]: `tensorboard` writes its files too; `peak` measures a CPU's for MFU."""

    tensorboard: bool = False
    peak: bool = True


@dataclass(frozen=True)
class Settings:
    """A whole run. `out` is the folder that it lives in."""

    out: Path
    model: Config
    data: DataSettings
    train: TrainSettings
    optimizer: OptimizerSettings = OptimizerSettings()
    checkpoint: CheckpointSettings = CheckpointSettings()
    rollback: SpikeRule = SpikeRule()
    metrics: MetricsSettings = MetricsSettings()

    def __post_init__(self) -> None:
        reach = (self.checkpoint.keep - 1) * self.checkpoint.every
        if self.rollback.enabled and reach < self.rollback.margin:
            _refuse(
                f"rollback.margin={self.rollback.margin} steps reaches past the oldest "
                f"of checkpoint.keep={self.checkpoint.keep} checkpoints, one every "
                f"{self.checkpoint.every} steps: keep more, or lower the margin"
            )

    def to_json(self) -> dict[str, Any]:
        """All settings as plain JSON, to be kept with the run."""
        parts = {name: asdict(getattr(self, name)) for name in _SECTIONS}
        return {"out": str(self.out), "model": self.model.to_json(), **parts}


_SECTIONS: Mapping[str, type[Any]] = {
    "data": DataSettings,
    "train": TrainSettings,
    "optimizer": OptimizerSettings,
    "checkpoint": CheckpointSettings,
    "rollback": SpikeRule,
    "metrics": MetricsSettings,
}


def read_settings(path: Path, assignments: Iterable[str], out: Path | None) -> Settings:
    """The settings of a TOML file, with SECTION.KEY=VALUE assignments put in.

    Raises `BadArgument`, with the nearest known name for one that is unknown.
    """
    table = override(read_toml(path), assignments)
    where = str(path)
    check_names(where, table, ["out", "model", *_SECTIONS])
    for name in ("model", "data", "train"):
        if name not in table:
            _refuse(f"{where} needs the section [{name}]: add it")
    folder = out or table.get("out", Path("runs") / path.stem)
    if not isinstance(folder, str | Path):
        _refuse(f"{where}: out = {folder!r} must be a text in quotes")
    parts = {
        name: section(kind, table[name], name, where)
        for name, kind in _SECTIONS.items()
        if name in table
    }
    return Settings(Path(folder), _model(table["model"], where), **parts)


def _model(table: Any, where: str) -> Config:
    """[model]: the fields of a `Config`, or the `name` of a model and changes to it."""
    if not isinstance(table, Mapping):
        _refuse(f"{where}: [model] must be a section, not {table!r}")
    known = [field.name for field in fields(Config)]
    check_names(f"{where}: [model]", table, ["name", *known])
    rest = {key: value for key, value in table.items() if key != "name"}
    try:
        if "name" in table:
            return Config.of(str(table["name"]), **rest)
        return Config.from_json(rest)
    except BadArgument as error:
        _refuse(f"{where}: [model] {error}")


def _at_least(where: str, name: str, value: int, least: int) -> None:
    if value < least:
        _refuse(f"{where}.{name}={value} must be at least {least}")


def _refuse(reason: str) -> NoReturn:
    raise BadArgument(reason=reason)
