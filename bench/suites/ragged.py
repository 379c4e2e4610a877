"""The whole layer against `jax.lax.ragged_dot` on the same experts and rows."""

from collections.abc import Iterator
from dataclasses import replace

import jax
import jax.numpy as jnp

from bench.baselines import in_first, ragged_dot
from bench.result import Bar, Row, milliseconds
from bench.setting import Setting
from bench.subject import compiled, forward, prepare
from bench.timing import clock, take_turns

TITLE = "glam without drops, forward, against its experts by lax.ragged_dot"
FASTER = 15.0
SLOW_ROWS = 1024  # from here on ragged_dot takes seconds a run: one sample must do


def run(setting: Setting) -> Iterator[Row]:
    """float32 only: of bfloat16 nothing is asked, and it takes as long again."""
    op = compiled("glam", setting, "float32", capacity_factor=float(setting.experts))
    subject = prepare(op)
    params, ours = subject.params, forward(op)
    rows = jnp.resize(subject.x, (subject.rows, setting.model))
    wi, wo = in_first(params["wi"]), in_first(params["wo"])
    theirs = (rows, wi, wo, jnp.asarray(subject.load, jnp.int32))
    effort = setting.effort
    if subject.rows >= SLOW_ROWS:
        effort = replace(effort, least=1, most=1, warm=0)
        jax.block_until_ready(ours(params, subject.x))
    clocks = {
        "ours": clock(ours, params, subject.x),
        "theirs": clock(jax.jit(ragged_dot).lower(*theirs).compile(), *theirs),
    }
    times = take_turns(clocks, effort)
    yield Row(
        f"glam, {FASTER:g}x faster asked",
        "float32",
        milliseconds(times["ours"]),
        milliseconds(times["theirs"]),
        Bar(1 / FASTER),
        against="lax.ragged_dot",
        facts=subject.facts,
    )
