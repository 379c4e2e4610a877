"""What is right: the float64 interpreter's results and gradients, by name."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ir import mlir
from ir.interpret import interpret
from ir.interpret.gradients import directional_check
from ir.types import from_attribute
from moegen.check.inputs import Given
from moegen.operator import Op

Array = NDArray[Any]
Named = Mapping[str, Array]


@dataclass(frozen=True)
class Truth:
    """Results and gradients by name; `narrow` marks tokens that rounding may reroute.

    `narrow` is a mask [tokens], or a single bool where experts choose tokens.
    """

    results: Named
    gradients: Named
    narrow: Array


def forward(op: Op, given: Given, near: float) -> tuple[Named, Array]:
    """Run the traced module: results, and which choices fell by less than `near`."""
    module = mlir.parse(op.stages["trace"])
    run = interpret(module, "forward", given.arguments())
    facts = map(from_attribute, mlir.result_facts(mlir.functions(module)["forward"]))
    results = {
        fact["moe.result"]: array
        for fact, array in zip(facts, run.results, strict=True)
    }
    narrow = np.zeros((), bool)
    for margin in run.margins.values():
        # A single margin is that of every expert's border: as many chances, each finer.
        narrow = narrow | (margin < (near if margin.ndim else near / 1000))
    return results, narrow


def gradients(op: Op, given: Given, cotangents: Named) -> Named:
    """Run the derived backward on the residuals of the derived forward."""
    module = mlir.parse(op.stages["derive-backward"])
    functions = mlir.functions(module)
    run = interpret(module, "forward_residuals", given.arguments())
    told = map(from_attribute, mlir.result_facts(functions["forward_residuals"]))
    kept = {
        fact["moe.residual"]: array
        for fact, array in zip(told, run.results, strict=True)
        if "moe.residual" in fact
    }
    arguments = []
    for fact in map(from_attribute, mlir.argument_facts(functions["backward"])):
        if "moe.residual" in fact:
            arguments.append(kept[fact["moe.residual"]])
        elif "moe.cotangent" in fact:
            arguments.append(cotangents[fact["moe.cotangent"]])
        else:
            held = given.inputs if "moe.input" in fact else given.params
            arguments.append(held[fact.get("moe.input") or fact["moe.param"]])
    made = interpret(module, "backward", arguments).results
    names = map(from_attribute, mlir.result_facts(functions["backward"]))
    return {fact["moe.result"]: a for fact, a in zip(names, made, strict=True)}


def proof(
    op: Op, given: Given, cotangents: Named, found: Named, seed: int
) -> dict[str, float]:
    """Each gradient against finite differences of the traced forward, in float64.

    Returns relative errors by gradient. Differences share nothing with the derivation.
    """
    module = mlir.parse(op.stages["trace"])
    names = [*given.inputs, *given.params]
    wanted = [names.index(name.removeprefix("d_")) for name in found]
    facts = map(from_attribute, mlir.result_facts(mlir.functions(module)["forward"]))
    results = interpret(module, "forward", given.arguments()).results
    weights = [
        cotangents.get(fact["moe.result"], np.zeros_like(array))
        for fact, array in zip(facts, results, strict=True)
        if array.dtype == np.float64
    ]
    exact = [
        a if a.dtype.kind in "bi" else a.astype(np.float64) for a in given.arguments()
    ]
    errors = directional_check(
        module, exact, weights, list(found.values()), wanted, seed
    )
    return dict(zip(found, errors, strict=True))
