"""Run by `test_sharded` in a process with eight devices: errors against NumPy."""

import json
import sys
from pathlib import Path

import jax
import numpy as np

import moegen
from bench.sharded import sharded
from moegen.layers import find_layer

EXPERTS, HIDDEN, TOKENS, MODEL, WIDTH = 4, 2, 8, 16, 32


def oracle(params, x):
    """The value and its gradients in float64; expert e has every run's e-th part."""
    wi, wo = params["wi"].astype(np.float64), params["wo"].astype(np.float64)
    rows = x.astype(np.float64).reshape(EXPERTS, EXPERTS, TOKENS // EXPERTS, MODEL)
    weights = np.tile(1.0 + np.arange(MODEL // HIDDEN), HIDDEN)
    inner = np.einsum("sead,ehd->seah", rows, wi)
    kept = np.maximum(inner, 0)
    value = np.einsum("seah,edh,d->", kept, wo, weights)
    d_kept = np.einsum("d,edh->eh", weights, wo)[None, :, None, :]
    d_inner = np.where(inner > 0, d_kept, 0)
    d_wi = np.einsum("seah,sead->ehd", d_inner, rows)
    d_wo = np.einsum("d,seah->edh", weights, kept)
    d_x = np.einsum("seah,ehd->sead", d_inner, wi).reshape(x.shape)
    return value, {"wi": d_wi, "wo": d_wo, "x": d_x}


def main() -> None:
    sizes = {"tokens": TOKENS, "model": MODEL, "hidden": WIDTH // HIDDEN}
    one = {"experts": 1, "k": 1, "capacity_factor": 1.0}
    op = moegen.compile(
        find_layer("glam"),
        sys.argv[1],
        cache=Path(sys.argv[2]),
        interpret=True,
        **sizes,
        **one,
    )
    mesh = jax.make_mesh(
        (EXPERTS, HIDDEN),
        ("experts", "hidden"),
        axis_types=(jax.sharding.AxisType.Auto,) * 2,
    )
    draws = np.random.default_rng(0)
    shapes = {
        "router": (MODEL, 1),
        "wi": (EXPERTS, WIDTH, MODEL),
        "wo": (EXPERTS, MODEL, WIDTH),
    }
    params = {n: draws.normal(size=s).astype(np.float32) for n, s in shapes.items()}
    x = draws.normal(size=(EXPERTS * TOKENS, MODEL)).astype(np.float32)
    forward = sharded(op, mesh, TOKENS, checked=False)
    value, (d_params, d_x) = jax.jit(jax.value_and_grad(forward, argnums=(0, 1)))(
        params, x
    )
    expected, gradients = oracle(params, x)
    errors = {"value": abs(float(value) - expected) / abs(expected)}
    for name, found in (d_params | {"x": d_x}).items():
        if name in gradients:
            scale = np.linalg.norm(gradients[name])
            errors[name] = float(np.linalg.norm(found - gradients[name]) / scale)
    print(json.dumps(errors))


if __name__ == "__main__":
    main()
