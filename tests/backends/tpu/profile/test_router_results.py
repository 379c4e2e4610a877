"""Our layers' kernels are told their rows although a kernel makes the choices."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from backends.tpu.profile.operand_values import kernel_calls
from backends.tpu.profile.router_results import router_results
from backends.tpu.profile.routing import Routing
from moegen.compiler import compile
from moegen.layers import find_layer
from moegen.plain import arrays, whole

_ROUTING = Routing("zipf")


def test_choices_and_rows_agree() -> None:
    inputs = [jax.ShapeDtypeStruct((8, 128), jnp.float32)]
    outputs = [
        jax.ShapeDtypeStruct((2, 2, 256), jnp.int32),
        jax.ShapeDtypeStruct((2, 8, 128), jnp.int32),
        jax.ShapeDtypeStruct((2, 8, 128), jnp.float32),
    ]
    chosen, rows, scores = router_results(inputs, outputs, _ROUTING)
    assert scores is None
    wanted = _ROUTING.choices(512, 2, 8).reshape(2, 256, 2)
    assert np.array_equal(np.asarray(chosen), wanted.swapaxes(1, 2))
    counted = [np.bincount(run.ravel(), minlength=8) for run in wanted]
    assert np.array_equal(np.asarray(rows).sum(axis=2), counted)


@pytest.mark.parametrize(
    ("layer", "experts"), [("glam", 8), ("mixtral", 8), ("glam", 1)]
)
def test_every_grouped_kernel_is_told_the_rows(
    layer: str, experts: int, tmp_path: Path
) -> None:
    sizes = {"tokens": 256, "model": 128, "hidden": 256, "experts": experts}
    sizes["k"] = min(2, experts)
    op = compile(find_layer(layer), "tpu-v5e", "bfloat16", tmp_path, **sizes)
    given = [jax.ShapeDtypeStruct(shape, jnp.dtype(kind)) for kind, shape in arrays(op)]
    module = whole(op).run(f"whole_{layer}", str(op.path))
    traced = jax.jit(module.whole_forward).trace(*given)
    calls = [c for c in kernel_calls(traced, _ROUTING) if c.name.startswith("grouped")]
    assert calls
    assert all(call.values for call in calls)
