"""Programs for a TPU do not grow with the number of experts or of layers."""

import re
from collections import Counter

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractDevice, AbstractMesh

import moegen
from moegen.layers import find_layer

TOKENS, MODEL, HIDDEN = 2048, 768, 1024


def ops_of(experts, layers, folder):
    """StableHLO ops of the gradient of so many layers under a scan."""
    sizes = {"tokens": TOKENS, "model": MODEL, "hidden": HIDDEN, "experts": experts}
    op = moegen.compile(find_layer("glam"), "tpu-v4", "bfloat16", cache=folder, **sizes)
    params = {
        name: jax.ShapeDtypeStruct((layers, *kind.shape), kind.dtype)
        for name, kind in op.parameters.items()
    }
    valid = jnp.ones(TOKENS, bool)

    def total(params, x):
        def step(x, own):
            y, aux = op.loaded.layer(own, x, valid)
            return y, aux["loss"]

        y, losses = jax.lax.scan(step, x, params)
        return jnp.sum(y.astype(jnp.float32)) + jnp.sum(losses)

    x = jax.ShapeDtypeStruct((TOKENS, MODEL), jnp.bfloat16)
    device = AbstractDevice(device_kind="TPU v4", num_cores=2, platform="tpu")
    mesh = AbstractMesh((), (), abstract_device=device)
    with jax.sharding.use_abstract_mesh(mesh):
        traced = jax.jit(jax.grad(total)).trace(params, x)
        text = traced.lower(lowering_platforms=("tpu",)).as_text()
    return Counter(re.findall(r'= "?((?:stablehlo\.|func\.)?\w+)', text))


@pytest.mark.parametrize(("first", "second"), [((8, 2), (256, 2)), ((8, 2), (8, 64))])
def test_the_same_ops(first, second, tmp_path):
    one = ops_of(*first, tmp_path)
    assert one["stablehlo.custom_call"] > 4
    assert one == ops_of(*second, tmp_path)
