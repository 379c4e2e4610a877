"""What is compiled, and what came of it: plain data, in and out of JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any

Fact = bool | int | float | str

# Stands for the job's file in every text, so that equal sources get equal answers.
SOURCE = "<source>"

TOPOLOGIES: Mapping[str, Mapping[str, str]] = {
    # Without megacore, libtpu describes each core of a v4 chip as a device of its own.
    "v4": {"topology_name": "v4:2x2x1", "chip_config_name": "megacore"},
    "v5e": {"topology_name": "v5e:2x2"},
    "v5p": {"topology_name": "v5p:2x2x1"},
    "v6e": {"topology_name": "v6e:2x2"},
    "tpu7x": {"topology_name": "tpu7x:2x2x1"},
}


class Kind(StrEnum):
    """The classes of outcomes."""

    LEGAL = "legal"
    ILLEGAL = "illegal"
    OUT_OF_MEMORY = "out_of_memory"
    CRASHED = "crashed"
    TIMED_OUT = "timed_out"


@dataclass(frozen=True)
class Argument:
    """One array: a dtype as NumPy or ml_dtypes name it, and its shape."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Job:
    """`function` of the Python source `file`, to be compiled for `chip`.

    `file` is a module that imports only jax and numpy, or the `__init__.py` of a
    package: then also what lies beside it. `static` holds (name, value) pairs that are
    passed by name and never traced.
    """

    chip: str
    file: str
    function: str
    args: tuple[Argument, ...] = ()
    static: tuple[tuple[str, Fact], ...] = ()

    def data(self) -> dict[str, Any]:
        """What the compiler sees of the job, as JSON: all but the file's place."""
        found = asdict(self)
        del found["file"]
        return found | {"topology": dict(TOPOLOGIES[self.chip])}


@dataclass(frozen=True)
class Outcome:
    """What the compiler said of one job.

    `reason` is one sentence, empty if legal; `stage` says where it failed: "import",
    "trace", "lower" or "compile"; `line` is a line of the job's file, where known.
    `seconds` covers tracing, lowering and compiling.

    Out of memory: `memory` is "vmem", "smem", "hbm" or another space that libtpu names,
    and `need` and `limit` are bytes of it; libtpu rounds some to 1/100 of a unit.

    Legal: bytes of arguments, outputs and temporaries in HBM; `vmem_bytes` of the
    Pallas kernel that takes most; the number of HLO instructions of all computations
    after optimisation; FLOPs and bytes as XLA counts them, which leaves out kernels
    that declare no cost. `None` is not known.
    """

    kind: Kind
    reason: str = ""
    stage: str = ""
    line: int | None = None
    memory: str = ""
    need: int | None = None
    limit: int | None = None
    seconds: float = 0.0
    argument_bytes: int | None = None
    output_bytes: int | None = None
    temporary_bytes: int | None = None
    vmem_bytes: int | None = None
    hlo_instructions: int | None = None
    flops: float | None = None
    bytes_accessed: float | None = None

    @property
    def legal(self) -> bool:
        return self.kind is Kind.LEGAL

    def data(self) -> dict[str, Any]:
        """The outcome as JSON."""
        return asdict(self)

    @staticmethod
    def of(data: Any) -> "Outcome":
        """The outcome that `data` describes; raises ValueError where it does not."""
        if not isinstance(data, dict) or data.keys() - _FIELDS.keys():
            raise ValueError("not the fields of an outcome")
        for name, value in data.items():
            if not isinstance(value, _FIELDS[name]):
                raise ValueError(f"{name} is {value!r}")
        return Outcome(**data | {"kind": Kind(data.get("kind", ""))})


_TEXTS = {"kind", "reason", "stage", "memory"}
_NUMBER = (int, float, type(None))
_FIELDS: Mapping[str, tuple[type, ...]] = {
    field.name: (str,) if field.name in _TEXTS else _NUMBER for field in fields(Outcome)
}
