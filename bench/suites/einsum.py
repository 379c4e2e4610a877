"""The layer against GShard's form: one-hot einsums over a capacity."""

from collections.abc import Iterator
from functools import partial

import jax

from bench.baselines import in_first, one_hot_einsum
from bench.result import Row, milliseconds
from bench.setting import Setting
from bench.subject import compiled, forward, prepare
from bench.timing import clock, take_turns

TITLE = "glam, forward, against one-hot einsums at the same capacity"
FACTOR = 2.0


def run(setting: Setting) -> Iterator[Row]:
    """Same routing and drops; no bar is set, it is the form most JAX code has."""
    for dtype in setting.dtypes:
        op = compiled("glam", setting, dtype, capacity_factor=FACTOR)
        subject = prepare(op)
        params = subject.params
        places = -(-int(setting.tokens * FACTOR / setting.experts) // 4) * 4
        form = jax.jit(partial(one_hot_einsum, k=setting.k, capacity=places))
        wi, wo = in_first(params["wi"]), in_first(params["wo"])
        theirs = (subject.x, params["router"], wi, wo)
        clocks = {
            "ours": clock(forward(op), params, subject.x),
            "theirs": clock(form, *theirs),
        }
        times = take_turns(clocks, setting.effort)
        yield Row(
            "glam",
            dtype,
            milliseconds(times["ours"]),
            milliseconds(times["theirs"]),
            against="one-hot einsum",
            facts=subject.facts,
        )
