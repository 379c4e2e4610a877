"""Inputs and parameters that make a layer route as asked.

Routing is computed by the layer from its inputs, so the inputs are steered: a token's
vector is moved until its product with the router's columns is what its experts need.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from ir import mlir
from ir.op import attributes_of, operand_types
from ir.types import Tensor
from moegen.check.routings import Routing
from moegen.operator import InputFact, Op

Array = NDArray[Any]


@dataclass(frozen=True)
class Given:
    """Arguments by name, in NumPy; `poisoned` is the token that holds NaN, if any."""

    params: Mapping[str, Array]
    inputs: Mapping[str, Array]
    poisoned: int | None

    def arguments(self) -> list[Array]:
        """In the order of the function `forward`: inputs first."""
        return [*self.inputs.values(), *self.params.values()]


def unusable(op: Op, routing: Routing) -> str:
    """Why a routing cannot be reached by this layer's inputs; "" if it can."""
    kinds = {fact.tensor.dtype for fact in op.inputs.values()}
    if routing.valid < 1.0 and "bool" not in kinds:
        return "the layer has no input that drops tokens"
    return ""


def draw_params(op: Op, seed: int) -> dict[str, Array]:
    """Parameters as initialised; what starts as a constant gets noise of its own.

    Those of a layer compiled with weights of one byte are the floats that they are of.
    """
    random = np.random.default_rng(seed)
    drawn = op.loaded.init(jax.random.key(seed))
    made = {name: np.asarray(array) for name, array in drawn.items()}
    for name, array in made.items():
        if np.unique(array).size == 1 and array.size > 1:
            noise = 0.05 * random.standard_normal(array.shape)
            made[name] = (array.astype(np.float64) + noise).astype(array.dtype)
    return made


def draw_inputs(
    op: Op, routing: Routing, params: Mapping[str, Array], seed: int
) -> dict[str, Array]:
    """All inputs, drawn and steered."""
    random = np.random.default_rng([seed, 1])
    wants = _wants(op, routing, random)
    router = _router(op, params)
    return {
        name: _one_input(fact, routing, wants, router, random)
        for name, fact in op.inputs.items()
    }


def choices_of(op: Op) -> tuple[int, int]:
    """How many experts a token picks, and of how many: (0, 0) if none routes."""
    found = _first_choice(op)
    return (found[0].shape[1], found[1]) if found else (0, 0)


def number_of_choices(op: Op) -> int:
    """Tokens times choices of the first dispatch; 0 if there is none."""
    found = _first_choice(op)
    return prod(found[0].shape) if found else 0


def _first_choice(op: Op) -> tuple[Tensor, int] | None:
    """The choice of the first dispatch, and of how many experts it is."""
    module = mlir.parse(op.stages["trace"])
    for made in mlir.walk(mlir.entry(mlir.functions(module)["forward"])):
        if made.operation.name == "moe.dispatch":
            return operand_types(made)[1], attributes_of(made)["experts"]
    return None


def _wants(op: Op, routing: Routing, random: np.random.Generator) -> Array | None:
    k, experts = choices_of(op)
    tokens = op.sizes.get("tokens", 0)
    if not k or not tokens:
        return None
    by_experts = '"moe.expert_choice"' in op.stages["trace"]
    return routing.wants(random, tokens, experts, 1 if by_experts else k)


def _router(op: Op, params: Mapping[str, Array]) -> Array | None:
    for name, axes in op.axes.items():
        if len(axes) == 2 and axes[1] == "experts":
            return params[name].astype(np.float64)
    return None


def _one_input(
    fact: InputFact,
    routing: Routing,
    wants: Array | None,
    router: Array | None,
    random: np.random.Generator,
) -> Array:
    shape, dtype = fact.tensor.shape, fact.tensor.dtype
    made: Array
    if dtype == "bool":
        made = random.random(shape) < routing.valid
    elif dtype == "int32":
        book = random.integers(0, 2**15, 4096 if wants is None else wants.max() + 1)
        picked = book[:64] if wants is None else book[wants[:, 0]]
        made = np.resize(picked, shape).astype(np.int32)
    elif fact.default == "uniform":
        made = random.random(shape).astype(np.float32)
    else:
        made = random.standard_normal(shape)
        if router is not None and wants is not None and len(shape) == 2:
            made = _steered(made, router, wants, random)
    return made.astype(jax.numpy.dtype(dtype))


def _steered(
    x: Array, router: Array, wants: Array, random: np.random.Generator
) -> Array:
    """x moved within the span of the router's columns to the logits that `wants` needs.

    With more experts than the model is wide no such x need exist: x stays as drawn.
    """
    model, experts = router.shape
    if experts > model or x.shape != (wants.shape[0], model):
        return x
    k = wants.shape[1]
    logits = random.uniform(-1.0, 0.3, (x.shape[0], experts))
    falling = 3.0 - min(0.6, 3.0 / k) * np.arange(k)
    jitter = random.uniform(-0.1, 0.1, wants.shape) * min(1.0, 5.0 / k)
    np.put_along_axis(logits, wants, falling + jitter, axis=1)
    moved: Array = x + (logits - x @ router) @ np.linalg.pinv(router)
    return moved
