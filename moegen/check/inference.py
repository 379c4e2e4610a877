"""A layer with weights of one byte: its results, against the oracle's.

The oracle runs the layer as it was traced, before any pass, in float64, on parameters
that are worth exactly what is stored times its scale. So what must agree is all but the
rounding of weights; what that costs is told beside it.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from backends.emission import quantised_parameters
from ir.narrow import LARGEST, scale_name
from moegen.check import oracle
from moegen.check.compare import BOUNDS, Finding, compare, holds
from moegen.check.inputs import Given
from moegen.operator import Op, Params

Array = NDArray[Any]
Named = Mapping[str, Array]

# Of the output, from rounding weights: a step of int8 is 1/127 of a channel's largest,
# one of fp8 at most 1/8 of the weight. Layers as initialised stay well below.
ROUNDING = {"int8": 2e-2, "fp8": 1e-1}
HALF = 0.501  # steps that the nearest may be off, in float32


def inference_program(op: Op) -> Callable[..., Any]:
    """What a layer without gradients computes."""
    return jax.jit(lambda params, inputs: op(params, **inputs))


def inference_findings(
    op: Op,
    program: Callable[..., Any],
    given: Given,
    unrounded: Named,
    dtype: str,
    reruns: int,
) -> tuple[dict[str, Array], list[Finding]]:
    """Results by name, and how they compare; `unrounded` are those of float weights."""
    assert op.weights is not None
    floats = {name: jax.numpy.asarray(a) for name, a in given.params.items()}
    params = op.quantise(floats)
    exact = dequantised(op, params)
    truth, _ = oracle.forward(op, Given(exact, given.inputs, given.poisoned), 0.0)
    inputs = dict(given.inputs)
    got = named(program(params, inputs))
    bound = BOUNDS[dtype]
    findings = [compare(n, got[n], array, bound, 0.0) for n, array in truth.items()]
    rounding = ROUNDING[op.weights]
    name = f"output, {op.weights} against float weights"
    findings.append(compare(name, got["output"], unrounded["output"], rounding, 0.0))
    findings += [_nearest(op, name, given.params, exact) for name in _matrices(op)]
    if reruns:
        same = all(_same(named(program(params, inputs)), got) for _ in range(reruns))
        findings.append(holds(f"{reruns} reruns", same, "a run differs from the first"))
    return got, findings


def dequantised(op: Op, params: Params) -> dict[str, Array]:
    """Float parameters in float64, each matrix what is stored times its scales."""
    made = {}
    for name, kind in op.parameters.items():
        made[name] = np.asarray(params[name])
        if kind.is_float or name in _matrices(op):
            made[name] = made[name].astype(np.float64)
    for name, (axis, _) in _matrices(op).items():
        scales = made.pop(scale_name(name))
        made[name] = made[name] * np.expand_dims(scales, axis)
    return made


def named(results: Any) -> dict[str, Array]:
    """What a layer returned, under the names of the IR."""
    output, aux = jax.device_get(results)
    found = {"output": output, "loss": aux["loss"]}
    found |= {f"losses.{name}": array for name, array in aux["losses"].items()}
    found |= {f"metrics.{name}": array for name, array in aux["metrics"].items()}
    return {name: np.asarray(array) for name, array in found.items()}


def _matrices(op: Op) -> dict[str, tuple[int, str]]:
    return quantised_parameters(op.module)


def _nearest(op: Op, name: str, floats: Named, exact: Named) -> Finding:
    """Each weight of one byte is worth the nearest that its channel can hold.

    int8 has steps of one scale, float8_e4m3fn of 1/8 of the power of two below.
    """
    axis, stored = _matrices(op)[name]
    given = floats[name].astype(np.float64)
    scale = np.abs(given).max(axis=axis, keepdims=True) / LARGEST[stored]
    step = np.where(scale > 0, scale, 1.0)
    if stored != "int8":
        least = 2.0**-6  # the smallest normal number
        size = np.maximum(np.abs(given) / step, least)
        step = step * 2.0 ** (np.floor(np.log2(size)) - 3)
    off = float(np.max(np.abs(exact[name] - given) / step, initial=0.0))
    return holds(f"{name} to the nearest", off <= HALF, f"{off:.4f} steps off")


def _same(one: Named, other: Named) -> bool:
    return all(array.tobytes() == other[name].tobytes() for name, array in one.items())
