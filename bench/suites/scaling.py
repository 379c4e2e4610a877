"""Many experts against few, at equal tokens: memory, program size, compile time."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from bench.result import Bar, Row
from bench.setting import Setting
from bench.subject import compiled, training
from bench.timing import Clock, Effort, take_turns
from moegen.operator import Op

TITLE = "glam at more experts, against the fewest, at equal tokens (nothing is run)"
MEMORY, COMPILE = Bar(1.2), Bar(1.5)
COMPILES = Effort(least=3, most=5, budget=20.0)


@dataclass(frozen=True)
class Program:
    """Facts of one compiled function that need no run."""

    temporaries: float
    operations: int
    instructions: int


def run(setting: Setting) -> Iterator[Row]:
    """Temporaries leave out arguments and results, so also the gradients themselves."""
    effort = replace(COMPILES, budget=min(COMPILES.budget, setting.effort.budget))
    few, *more = setting.scaling_experts
    for dtype in setting.dtypes:
        ops = {
            experts: compiled("glam", setting, dtype, experts=experts)
            for experts in setting.scaling_experts
        }
        for passes in ("forward", "training"):
            programs = {experts: _program(op, passes) for experts, op in ops.items()}
            for experts in more:
                case = f"E = {experts} / {few}, {passes}"
                yield from _rows(case, dtype, programs[experts], programs[few])
            compiles = {str(e): _compile_clock(ops[e], passes) for e in ops}
            times = take_turns(compiles, effort)
            for experts in more:
                yield Row(
                    f"E = {experts} / {few}, {passes}: compile",
                    dtype,
                    times[str(experts)],
                    times[str(few)],
                    COMPILE,
                    unit="s",
                )


def _rows(case: str, dtype: str, many: Program, few: Program) -> Iterator[Row]:
    figures = (
        ("temporaries", "MiB", many.temporaries, few.temporaries, MEMORY),
        ("HLO ops", "", many.operations, few.operations, Bar(1.0, "==")),
        ("after XLA", "", many.instructions, few.instructions, None),
    )
    for what, unit, ours, theirs, bar in figures:
        yield Row(f"{case}: {what}", dtype, (ours,), (theirs,), bar, unit)


def _lowered(op: Op, passes: str) -> Any:
    """Lowered from shapes alone, by a function that no cache knows."""

    def shape(tensor: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(tensor.shape, jnp.dtype(tensor.dtype))

    params = {name: shape(tensor) for name, tensor in op.parameters.items()}
    x = shape(op.inputs["x"].tensor)
    if passes == "forward":
        return jax.jit(lambda params, x: op(params, x)).lower(params, x)
    return training(op).lower(params, x, x)


def _program(op: Op, passes: str) -> Program:
    lowered = _lowered(op, passes)
    executable = lowered.compile()
    temporaries = executable.memory_analysis().temp_size_in_bytes / 2**20
    return Program(
        temporaries, _assignments(lowered.as_text()), _assignments(executable.as_text())
    )


def _assignments(text: str) -> int:
    """How many lines of MLIR or HLO text give a name to a result."""
    return sum(" = " in line for line in text.splitlines())


def _compile_clock(op: Op, passes: str) -> Clock:
    def measure() -> float:
        lowered = _lowered(op, passes)
        start = time.perf_counter()
        lowered.compile()
        return time.perf_counter() - start

    return measure
