"""Kernels under Pallas' TPU interpreter: no races, nothing read that nobody wrote."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import moegen
from backends.emitted import PACKAGE
from moegen.layers import find_layer

interpreter = pytest.importorskip(
    "jax._src.pallas.mosaic.interpret.interpret_pallas_call",
    reason="this JAX keeps the record of races elsewhere",
)
SIZES = {"tokens": 12, "model": 256, "hidden": 256, "experts": 3}
PLAIN = "INTERPRET = False"
WATCHED = (
    "INTERPRET = pltpu.InterpretParams(detect_races=True, uninitialized_memory='nan')"
)


def watched(layer, target, folder, **options):
    """The emitted module, with kernels run by the interpreter that finds races."""
    emitted = moegen.compile(
        find_layer(layer), target, "bfloat16", cache=folder, **options, **SIZES
    ).emitted
    rows = emitted.beside["rows.py"]
    assert PLAIN in rows
    beside = {**emitted.beside, "rows.py": rows.replace(PLAIN, WATCHED)}
    path = folder / layer / PACKAGE
    return replace(emitted, beside=beside).run(f"{layer}_watched", str(path))


@pytest.mark.slow
@pytest.mark.parametrize("target", ["tpu-v4"])
def test_kernels_have_no_races_and_read_only_what_was_written(target, tmp_path):
    """The same bits as of plain interpretation, which agrees with the oracle."""
    module = watched("mixtral", target, tmp_path)
    plain = moegen.compile(
        find_layer("mixtral"),
        target,
        "bfloat16",
        cache=tmp_path,
        interpret=True,
        **SIZES,
    )
    params = plain.init(jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (12, 256)).astype(jnp.bfloat16)

    def run(layer):
        def total(params, x):
            y, _ = layer(params, x)
            return jnp.sum(y.astype(jnp.float32) ** 2), y

        gradients = jax.value_and_grad(total, argnums=(0, 1), has_aux=True)
        return jax.tree.map(np.asarray, jax.jit(gradients)(params, x))

    found = run(module.layer)
    assert not interpreter.races.races_found
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
    jax.tree.map(np.testing.assert_array_equal, found, run(plain.loaded.layer))
