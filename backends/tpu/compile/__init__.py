"""Legality and memory of TPU programs, asked of libtpu itself, without a TPU."""

from backends.tpu.compile.job import TOPOLOGIES, Argument, Job, Kind, Outcome
from backends.tpu.compile.service import compile_many, compile_one

__all__ = [
    "TOPOLOGIES",
    "Argument",
    "Job",
    "Kind",
    "Outcome",
    "compile_many",
    "compile_one",
]
