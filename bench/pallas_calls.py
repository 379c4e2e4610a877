"""The Pallas kernels of a compiled layer, found by tracing its emitted module."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from moegen.operator import Op


def pallas_calls(op: Op) -> dict[str, Any]:
    """The equations of all kernels, by their names: `forward.grouped_rows.0`.

    Kernels of `forward` first, then those of `forward_residuals` and `backward`.
    """
    inputs = [_shape(fact.tensor) for fact in op.inputs.values()]
    params = {name: _shape(kind) for name, kind in op.parameters.items()}

    def forward(params: Any, inputs: Any) -> Any:
        return op.loaded.forward(params, *inputs)

    def residuals(params: Any, inputs: Any) -> Any:
        return op.loaded.forward_residuals(params, *inputs)

    def loss(params: Any, inputs: Any) -> jax.Array:
        y, aux = op.loaded.layer(params, *inputs)
        total: jax.Array = jnp.sum(y.astype(jnp.float32)) + aux["loss"]
        return total

    def training(params: Any, inputs: Any) -> Any:
        return jax.grad(loss, allow_int=True)(params, inputs)

    alone, first, both = (
        list(_calls(jax.make_jaxpr(function)(params, inputs).jaxpr))
        for function in (forward, residuals, training)
    )
    return {
        **_named("forward", alone),
        **_named("forward_residuals", first),
        **_named("backward", both[len(first) :]),
    }


def _shape(kind: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(kind.shape, kind.dtype)


def _calls(jaxpr: Any) -> Iterator[Any]:
    for equation in jaxpr.eqns:
        if equation.primitive.name == "pallas_call":
            yield equation
            continue
        for value in equation.params.values():
            for inner in value if isinstance(value, (list, tuple)) else (value,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from _calls(inner)


def _named(function: str, calls: list[Any]) -> dict[str, Any]:
    counts: dict[str, int] = {}
    found = {}
    for call in calls:
        kind = call.params["name"]
        number = counts.get(kind, 0)
        counts[kind] = number + 1
        found[f"{function}.{kind}.{number}"] = call
    return found
