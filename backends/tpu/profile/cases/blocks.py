"""Blocks in VMEM: the kernels of the pallas-tpu-tutorial's chapter 1, on TPU v4."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

Body = Callable[..., None]


def _block(
    body: Body, shapes: list[tuple[int, ...]], *args: Any, dtype: Any = None
) -> Any:
    space = pl.BlockSpec(memory_space=pltpu.VMEM)
    outs = [jax.ShapeDtypeStruct(shape, dtype or args[0].dtype) for shape in shapes]
    specs = [space] * len(args)
    return pl.pallas_call(
        body, in_specs=specs, out_specs=[space] * len(outs), out_shape=outs
    )(*args)


def dot(a: Any, b: Any) -> Any:
    """One product, accumulated in float32."""

    def body(a: Any, b: Any, o: Any) -> None:
        o[...] = jnp.dot(a[...], b[...], preferred_element_type=jnp.float32)

    return _block(body, [(a.shape[0], b.shape[1])], a, b, dtype=jnp.float32)


def transpose(a: Any) -> Any:
    """One transpose."""

    def body(a: Any, o: Any) -> None:
        o[...] = a[...].T

    return _block(body, [a.shape[::-1]], a)


def two_transposes(a: Any, b: Any) -> Any:
    """Two transposes that share nothing."""

    def body(a: Any, b: Any, o: Any, p: Any) -> None:
        o[...] = a[...].T
        p[...] = b[...].T

    return _block(body, [a.shape[::-1], b.shape[::-1]], a, b)


def sum_lanes(a: Any) -> Any:
    """Sum over the last axis, kept in every lane."""

    def body(a: Any, o: Any) -> None:
        o[...] = jnp.broadcast_to(jnp.sum(a[...], axis=1, keepdims=True), a.shape)

    return _block(body, [a.shape], a)


def max_lanes(a: Any) -> Any:
    """Maximum over the last axis, kept in every lane."""

    def body(a: Any, o: Any) -> None:
        o[...] = jnp.broadcast_to(jnp.max(a[...], axis=1, keepdims=True), a.shape)

    return _block(body, [a.shape], a)


def hillis_steele(a: Any) -> Any:
    """Inclusive sums over lanes in seven rotations."""

    def body(a: Any, o: Any) -> None:
        x = a[...]
        lane = lax.broadcasted_iota(jnp.int32, x.shape, 1)
        for step in (1, 2, 4, 8, 16, 32, 64):
            x = x + jnp.where(lane >= step, pltpu.roll(x, step, 1), 0.0)
        o[...] = x

    return _block(body, [a.shape], a)


def scan_sublanes(a: Any) -> Any:
    """Inclusive sums over the eight sublanes in three rotations."""

    def body(a: Any, o: Any) -> None:
        x = a[...]
        row = lax.broadcasted_iota(jnp.int32, x.shape, 0)
        for step in (1, 2, 4):
            x = x + jnp.where(row >= step, pltpu.roll(x, step, 0), 0.0)
        o[...] = x

    return _block(body, [a.shape], a)


def concat_rows(a: Any, b: Any) -> Any:
    """Two blocks under each other."""

    def body(a: Any, b: Any, o: Any) -> None:
        o[...] = jnp.concatenate([a[...], b[...]], axis=0)

    return _block(body, [(a.shape[0] + b.shape[0], a.shape[1])], a, b)


def concat_lanes(a: Any, b: Any) -> Any:
    """Two blocks side by side."""

    def body(a: Any, b: Any, o: Any) -> None:
        o[...] = jnp.concatenate([a[...], b[...]], axis=1)

    return _block(body, [(a.shape[0], a.shape[1] + b.shape[1])], a, b)


def roll(a: Any) -> Any:
    """A rotation by five lanes."""

    def body(a: Any, o: Any) -> None:
        o[...] = pltpu.roll(a[...], 5, 1)

    return _block(body, [a.shape], a)


def take_lanes(a: Any, index: Any) -> Any:
    """`take_along_axis` over lanes."""

    def body(a: Any, index: Any, o: Any) -> None:
        o[...] = jnp.take_along_axis(a[...], index[...], axis=1)

    return _block(body, [a.shape], a, index)


def scale_unrolled(a: Any) -> Any:
    """Twice the input, tile by tile, in a Python loop."""

    def body(a: Any, o: Any) -> None:
        for i in range(a.shape[0] // 8):
            o[8 * i : 8 * i + 8, :] = a[8 * i : 8 * i + 8, :] * 2.0

    return _block(body, [a.shape], a)


def _scale_loop(a: Any, unroll: int) -> Any:
    def body(a: Any, o: Any) -> None:
        def step(i: Any, carry: None) -> None:
            rows = pl.ds(pl.multiple_of(8 * i, 8), 8)
            o[rows, :] = a[rows, :] * 2.0

        lax.fori_loop(0, a.shape[0] // 8, step, None, unroll=unroll)

    return _block(body, [a.shape], a)


def scale_loop_2(a: Any) -> Any:
    """Twice the input in a loop of two tiles a step."""
    return _scale_loop(a, 2)


def scale_loop_4(a: Any) -> Any:
    """Twice the input in a loop of four tiles a step."""
    return _scale_loop(a, 4)


def scale_loop_8(a: Any) -> Any:
    """Twice the input in a loop of eight tiles a step."""
    return _scale_loop(a, 8)


def sums_by_dot(a: Any) -> Any:
    """Inclusive sums over lanes as one product with a triangle of ones."""

    def body(a: Any, o: Any) -> None:
        rows = lax.broadcasted_iota(jnp.int32, (128, 128), 0)
        columns = lax.broadcasted_iota(jnp.int32, (128, 128), 1)
        ones = (rows <= columns).astype(jnp.float32)
        o[...] = jnp.dot(a[...], ones, preferred_element_type=jnp.float32)

    return _block(body, [a.shape], a)


def scan_rows(a: Any) -> Any:
    """Inclusive sums over the eight sublanes, each row spread by a load of stride 0."""

    def body(a: Any, o: Any) -> None:
        row = lax.broadcasted_iota(jnp.int32, a.shape, 0)
        total = a[pl.ds(0, a.shape[0], stride=0), :]
        for i in range(1, a.shape[0]):
            spread = a[pl.ds(i, a.shape[0], stride=0), :]
            total = total + jnp.where(row >= i, spread, 0.0)
        o[...] = total

    return _block(body, [a.shape], a)


def max_and_place(a: Any) -> Any:
    """Each row's maximum and its lane, in every lane."""

    def body(a: Any, o: Any, p: Any) -> None:
        x = a[...]
        o[...] = jnp.broadcast_to(jnp.max(x, axis=1, keepdims=True), x.shape)
        place = jnp.argmax(x, axis=1, keepdims=True).astype(jnp.int32)
        p[...] = jnp.broadcast_to(place.astype(jnp.float32), x.shape)

    return _block(body, [a.shape, a.shape], a)


def top_8(a: Any) -> Any:
    """The eight largest of each row and their lanes, one after another."""

    def body(a: Any, o: Any, p: Any) -> None:
        x = a[...]
        lane = lax.broadcasted_iota(jnp.int32, x.shape, 1)
        values, places = jnp.zeros_like(x), jnp.zeros_like(x)
        for rank in range(8):
            best = jnp.max(x, axis=1, keepdims=True)
            place = jnp.argmax(x, axis=1, keepdims=True).astype(jnp.int32)
            values = jnp.where(lane == rank, best, values)
            places = jnp.where(lane == rank, place.astype(jnp.float32), places)
            x = jnp.where(lane == place, -jnp.inf, x)
        o[...] = values
        p[...] = places

    return _block(body, [a.shape, a.shape], a)
