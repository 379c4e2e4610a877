"""The truth for a sample, in float64: routing of every token, experts of a few.

Capacity makes each token depend on all others, so the interpreter routes the whole
batch. The experts' products are then worked out in NumPy for the sampled tokens only,
from the layer's equations: nothing of the compiler is in it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ir import mlir
from ir.interpret import interpret
from ir.types import from_attribute
from moegen.compiler import compile
from moegen.signature import Layer

Array = NDArray[Any]
NEAR = 1e-5


@dataclass(frozen=True)
class Routed:
    """What the interpreter says of every token: choices [T, K], and near-ties."""

    choice: Array
    kept: Array
    near: Array
    loss: float
    load: Array
    dropped: int


def route(layer: Layer, sizes: dict[str, Any], x: Array, router: Array) -> Routed:
    """Route the whole batch in float64.

    The layer is traced with experts of one hidden unit, which routing never looks at.
    """
    slim = compile(layer, **{**sizes, "hidden": 1})
    module = mlir.parse(slim.stages["trace"])
    facts = map(from_attribute, mlir.result_facts(mlir.functions(module)["forward"]))
    names = [fact["moe.result"] for fact in facts]
    block = mlir.entry(mlir.functions(module)["forward"])
    *body, last = list(block.operations)
    choice = next(
        op for op in body if op.operation.name == "moe.take"
    ).operation.operands[1]
    kept = next(
        op for op in body if op.operation.name == "moe.dispatch"
    ).operation.operands[1]
    with mlir.context(), mlir.InsertionPoint(last):
        held = [*last.operation.operands, choice, kept]
        mlir.create("func.return", held, [])
    last.operation.erase()
    experts, model = sizes["experts"], sizes["model"]
    given = {
        "x": x,
        "valid": np.ones(x.shape[0], bool),
        "router": router,
        "wi": np.zeros((experts, 1, model)),
        "wo": np.zeros((experts, model, 1)),
    }
    run = interpret(
        module, "forward", [given[n] for n in (*slim.inputs, *slim.parameters)]
    )
    found = dict(zip(names, run.results, strict=False))
    return Routed(
        choice=run.results[-2],
        kept=run.results[-1],
        near=run.margins[0] < NEAR,
        loss=float(found["loss"]),
        load=found["metrics.load"],
        dropped=int(found["metrics.dropped"]),
    )


def sample(routed: Routed, count: int, seed: int = 0) -> Array:
    """Tokens to compare, none of them a near-tie."""
    clear = np.flatnonzero(~routed.near)
    random = np.random.default_rng(seed)
    picked: Array = np.sort(random.choice(clear, min(count, clear.size), replace=False))
    return picked


def token_truth(
    token: int,
    routed: Routed,
    x: Array,
    d_y: Array,
    params: dict[str, Array],
    weight: float,
) -> tuple[Array, Array]:
    """A token's output, and the gradient of sum(y * d_y) + loss with respect to its x.

    GLaM's equations, with the choice held fixed, as it is in the layer's gradient.
    """
    tokens, experts = x.shape[0], params["router"].shape[1]
    row, d_row = x[token].astype(np.float64), d_y[token].astype(np.float64)
    router = params["router"].astype(np.float64)
    scores = np.exp(row @ router - (row @ router).max())
    scores /= scores.sum()
    chosen = routed.choice[token]
    total = scores[chosen].sum() + 1e-9
    gates = scores[chosen] / total

    y, d_x, d_gates = np.zeros_like(row), np.zeros_like(row), np.zeros_like(gates)
    for place, expert in enumerate(routed.kept[token]):
        if expert < 0:
            continue
        wi = params["wi"][expert].astype(np.float64)
        wo = params["wo"][expert].astype(np.float64)
        before = row @ wi
        out = np.maximum(before, 0.0) @ wo
        y += gates[place] * out
        d_gates[place] = out @ d_row
        d_x += wi @ (np.where(before > 0.0, wo @ d_row, 0.0) * gates[place])

    first = np.bincount(routed.choice[:, 0], minlength=experts)
    d_scores = weight * experts * first / tokens**2
    d_scores[chosen] += (d_gates - d_gates @ gates) / total
    d_logits = scores * (d_scores - d_scores @ scores)
    return y, d_x + router @ d_logits


def units_truth(
    units: Array,
    routed: Routed,
    x: Array,
    d_y: Array,
    params: dict[str, Array],
    expert: int,
) -> tuple[Array, Array]:
    """Gradients of one expert's wi[:, units] and wo[units], over all its tokens."""
    router = params["router"].astype(np.float64)
    tokens, places = np.nonzero(routed.kept == expert)
    rows, d_rows = x[tokens].astype(np.float64), d_y[tokens].astype(np.float64)
    logits = rows @ router
    scores = np.exp(logits - logits.max(axis=1, keepdims=True))
    scores /= scores.sum(axis=1, keepdims=True)
    chosen = np.take_along_axis(scores, routed.choice[tokens], axis=1)
    gates = chosen / (chosen.sum(axis=1, keepdims=True) + 1e-9)
    gate = gates[np.arange(tokens.size), places][:, None]
    before = rows @ params["wi"][expert][:, units].astype(np.float64)
    d_inner = gate * (d_rows @ params["wo"][expert][units].astype(np.float64).T)
    d_wi: Array = rows.T @ np.where(before > 0.0, d_inner, 0.0)
    d_wo: Array = np.maximum(before, 0.0).T @ (gate * d_rows)
    return d_wi, d_wo
