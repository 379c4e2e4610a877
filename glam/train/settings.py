"""The settings of a run, section by section, with what each key means."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NoReturn

from glam.model.config import Config
from glam.train.plan import (
    CheckpointSettings,
    OptimizerSettings,
    Plan,
    TrainSettings,
)
from glam.train.spike import SpikeRule
from glam.train.toml_table import check_names, override, read_toml, section
from ir.errors import BadArgument


@dataclass(frozen=True)
class DataSettings:
    """[data]: what is read, by the names that `glam.data.batches` takes.

    `source` is a name, a path or a mixture; `part` of it is "train" (all documents but
    the held-out `fraction`, or all but the end of a single document) or "all".
    `held_out` is the source whose held-out part is validated on, by default the same.
    `tokenizer` is "bytes" or the path of a SentencePiece model.
    """

    source: str
    part: str = "train"
    held_out: str | None = None
    fraction: float = 0.05
    tokenizer: str = "bytes"


@dataclass(frozen=True)
class MetricsSettings:
    """[metrics]: `tensorboard` writes its files too; `peak` measures that of a CPU."""

    tensorboard: bool = False
    peak: bool = True


@dataclass(frozen=True)
class Settings:
    """A whole run. `out` is the folder that it lives in."""

    out: Path
    model: Config
    data: DataSettings
    plan: Plan
    metrics: MetricsSettings

    def to_json(self) -> dict[str, Any]:
        """All settings as plain JSON, to be kept with the run."""
        return {
            "out": str(self.out),
            "model": self.model.to_json(),
            "data": asdict(self.data),
            **self.plan.to_json(),
            "metrics": asdict(self.metrics),
        }


_PLAN: Mapping[str, type[Any]] = {
    "train": TrainSettings,
    "optimizer": OptimizerSettings,
    "checkpoint": CheckpointSettings,
    "rollback": SpikeRule,
}
_SECTIONS: Mapping[str, type[Any]] = {
    "data": DataSettings,
    **_PLAN,
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
    made: dict[str, Any] = {
        name: section(kind, table.get(name, {}), name, where)
        for name, kind in _SECTIONS.items()
    }
    plan = Plan(**{name: made[name] for name in _PLAN})
    model = _model(table["model"], where)
    return Settings(Path(folder), model, made["data"], plan, made["metrics"])


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


def _refuse(reason: str) -> NoReturn:
    raise BadArgument(reason=reason)
