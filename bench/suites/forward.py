"""The forward pass against the dense product of equal FLOPs."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp

from bench.baselines import dense, in_first
from bench.result import Bar, Row, milliseconds
from bench.setting import Setting
from bench.subject import compiled, forward, prepare
from bench.timing import clock, take_turns

TITLE = "glam, forward, against one dense product of as many rows"
BARS = {"float32": Bar(1.7), "bfloat16": Bar(1.3)}


def run(setting: Setting) -> Iterator[Row]:
    """As shipped (rows over the capacity are dropped), and with room for every row."""
    for dtype in setting.dtypes:
        params = None
        for case, factor in (("glam", 2.0), ("glam dropless", setting.experts)):
            op = compiled("glam", setting, dtype, capacity_factor=float(factor))
            subject = prepare(op, params=params)
            params = subject.params
            rows = jnp.resize(subject.x, (subject.rows, setting.model))
            one = (rows, in_first(params["wi"][0]), in_first(params["wo"][0]))
            clocks = {
                "ours": clock(forward(op), params, subject.x),
                "theirs": clock(jax.jit(dense), *one),
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
