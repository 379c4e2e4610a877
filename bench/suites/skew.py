"""Uneven routings against a uniform one, at equal rows."""

from collections.abc import Iterator
from typing import Any

from bench.result import Bar, Row, milliseconds
from bench.setting import Setting
from bench.subject import Routing, Subject, compiled, forward, prepare, training
from bench.timing import Clock, clock, take_turns

TITLE = "glam without drops: uneven routings against a uniform one"
UNEVEN: dict[Routing, Bar] = {"zipf": Bar(1.3), "two experts": Bar(1.0)}


def run(setting: Setting) -> Iterator[Row]:
    """Forward, and with backward. The router is an identity, the inputs steer."""
    for dtype in setting.dtypes:
        op = compiled("glam", setting, dtype, capacity_factor=float(setting.experts))
        uniform = prepare(op, "uniform")
        subjects = {"uniform": uniform} | {
            name: prepare(op, name, uniform.params) for name in UNEVEN
        }
        for passes, function in (("forward", forward(op)), ("training", training(op))):
            clocks = {n: _clock(function, passes, s) for n, s in subjects.items()}
            times = take_turns(clocks, setting.effort)
            for name, bar in UNEVEN.items():
                yield Row(
                    f"{name}, {passes}",
                    dtype,
                    milliseconds(times[name]),
                    milliseconds(times["uniform"]),
                    bar,
                    against="uniform routing",
                    facts=subjects[name].facts,
                )


def _clock(function: Any, passes: str, subject: Subject) -> Clock:
    arguments = (subject.params, subject.x)
    if passes == "forward":
        return clock(function, *arguments)
    return clock(function, *arguments, subject.cotangent)
