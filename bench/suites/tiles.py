"""Where a layer of gated experts spends its time: products, tiles, uneven experts.

A product's time is not even in the rows of a tile, and an expert that has a few rows
more than a tile pays for another one.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jax import lax

from bench.baselines import in_first
from bench.result import Row, milliseconds
from bench.setting import Setting
from bench.subject import compiled, forward, prepare
from bench.timing import clock, take_turns

TITLE = "mixtral taken apart: even and uneven experts, and one product by its rows"
ROWS = (8, 16, 32, 48, 64, 72, 80, 96, 128)
REFERENCE = 64


def run(setting: Setting) -> Iterator[Row]:
    """Figures without bars: they say what a bar that is missed rests on."""
    for dtype in setting.dtypes:
        yield from _layers(setting, dtype)
        yield from _products(setting, dtype)


def gated(x: jax.Array, gate: jax.Array, up: jax.Array, down: jax.Array) -> jax.Array:
    """[R, M] by [M, H] twice and [H, M]: one expert that takes all rows."""
    inner = jax.nn.silu(_product(x, gate, 1, 0)) * _product(x, up, 1, 0)
    return _product(inner.astype(x.dtype), down, 1, 0)


def _layers(setting: Setting, dtype: str) -> Iterator[Row]:
    """Equally many rows an expert against one large product, and drawn ones."""
    op = compiled("mixtral", setting, dtype)
    even = prepare(op, "uniform")
    drawn = prepare(op, "random", even.params)
    held = (in_first(even.params[name][0]) for name in ("w_gate", "w_up", "w_down"))
    rows = jnp.resize(even.x, (even.rows, setting.model))

    clocks = {
        "even": clock(forward(op), even.params, even.x),
        "drawn": clock(forward(op), drawn.params, drawn.x),
        "dense": clock(jax.jit(gated), rows, *held),
    }
    times = take_turns(clocks, setting.effort)
    for name, other, subject in (("even", "dense", even), ("drawn", "even", drawn)):
        yield Row(
            f"{name} experts / {other}",
            dtype,
            milliseconds(times[name]),
            milliseconds(times[other]),
            against=other,
            facts=subject.facts,
        )


def _products(setting: Setting, dtype: str) -> Iterator[Row]:
    """One expert's weights [H, M], as they lie, by so many rows as columns."""
    weights = jnp.ones((setting.hidden, setting.model), dtype)
    product = jax.jit(_product, static_argnums=(2, 3))
    clocks = {
        str(count): clock(
            product, weights, jnp.ones((count, setting.model), dtype), 1, 1
        )
        for count in ROWS
    }
    times = take_turns(clocks, setting.effort)
    for count in ROWS:
        yield Row(
            f"{count} rows / {REFERENCE} rows",
            dtype,
            milliseconds(times[str(count)]),
            milliseconds(times[str(REFERENCE)]),
            against=f"{REFERENCE} rows",
        )


def _product(
    left: jax.Array, right: jax.Array, of_left: int, of_right: int
) -> jax.Array:
    """float32: over one axis of each."""
    return lax.dot_general(
        left,
        right,
        (((of_left,), (of_right,)), ((), ())),
        preferred_element_type=jnp.float32,
    )
