"""Forward with backward, every gradient, against the same of the dense product."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp

from bench.baselines import dense, in_first, with_gradients
from bench.result import Bar, Row, milliseconds
from bench.setting import Setting
from bench.subject import compiled, prepare, training
from bench.timing import clock, take_turns

TITLE = "glam, forward with backward, against the same of one dense product"
BARS = {"float32": Bar(3.0), "bfloat16": Bar(2.0)}


def run(setting: Setting) -> Iterator[Row]:
    """As shipped, and with room for every row."""
    for dtype in setting.dtypes:
        params = None
        for case, factor in (("glam", 2.0), ("glam dropless", setting.experts)):
            op = compiled("glam", setting, dtype, capacity_factor=float(factor))
            subject = prepare(op, params=params)
            params = subject.params
            rows = jnp.resize(subject.x, (subject.rows, setting.model))
            one = (rows, in_first(params["wi"][0]), in_first(params["wo"][0]))
            clocks = {
                "ours": clock(training(op), params, subject.x, subject.cotangent),
                "theirs": clock(jax.jit(with_gradients(dense)), rows, *one),
            }
            times = take_turns(clocks, setting.effort)
            yield Row(
                case,
                dtype,
                milliseconds(times["ours"]),
                milliseconds(times["theirs"]),
                BARS.get(dtype),
                against="dense product",
                facts=subject.facts,
            )
