"""The dialect `kernel`, one function an op. A plan is simply the choice it is for."""

from collections.abc import Callable, Sequence

import numpy as np

from ir.interpret import moe
from ir.interpret.arrays import Array
from ir.interpret.rows import Segment, check_choice, segments
from ir.narrow import LARGEST

# Runs a block program: operands and how many rows the block holds.
Program = Callable[[list[Array], int], list[Array]]


def row_plan(choice: Array, *, experts: int, rows: int) -> Array:
    segments(choice, experts, rows)
    return choice


def grouped_matmul(
    program: Program,
    plan: Array,
    operands: Sequence[Array],
    *,
    experts: int,
    rows: int,
    operand_kinds: Sequence[str],
    result_kinds: Sequence[str],
    results: list[Array],
) -> list[Array]:
    """Fill `results`, given as zeros, by one block for each expert that has rows."""
    for segment in segments(plan, experts, rows):
        fetched = [
            _fetch(kind, operand, segment, plan.shape[1])
            for kind, operand in zip(operand_kinds, operands, strict=True)
        ]
        yielded = program(fetched, segment.choices.size)
        for kind, result, value in zip(result_kinds, results, yielded, strict=True):
            result[segment.rows if kind == "row" else segment.expert] = value
    return results


def _fetch(kind: str, operand: Array, segment: Segment, ks: int) -> Array:
    match kind:
        case "token":
            fetched = operand[segment.choices // ks]
        case "choice":
            fetched = operand.reshape(-1, 1)[segment.choices]
        case "row":
            fetched = operand[segment.rows]
        case _:
            fetched = operand[segment.expert]
    return np.asarray(fetched)


def combine(plan: Array, rows: Array, gates: Array | None = None) -> Array:
    return moe.combine(rows, plan, gates, experts=_experts(plan))


def collect(plan: Array, rows: Array) -> Array:
    return moe.collect(rows, plan, experts=_experts(plan))


def _experts(plan: Array) -> int:
    """As many experts as the plan names: where rows lie depends on no others."""
    experts = int(plan.max(initial=-1)) + 1
    check_choice(plan, experts)
    return experts


def quantise(w: Array, *, axis: int, stored: str) -> list[Array]:
    """What is stored, and the scales; numbers of eight bits as `ml_dtypes` rounds."""
    largest = LARGEST[stored]
    scales = np.abs(w).max(axis=axis, keepdims=True) / largest
    usable = np.isfinite(scales) & (scales > 0)
    steps = np.where(usable, w / np.where(usable, scales, 1.0), 0.0)
    steps = np.clip(steps, -largest, largest)
    kept = np.rint(steps) if stored == "int8" else steps.astype(stored)
    return [kept, scales.squeeze(axis)]


def dot(rows: Array, weights: Array, *, transposed: bool) -> Array:
    return np.asarray(rows @ (weights.T if transposed else weights))


def outer(a: Array, b: Array) -> Array:
    return np.asarray(a.T @ b)


def sum_rows(rows: Array) -> Array:
    return np.asarray(rows.sum(axis=0))


def broadcast(values: Array, *, width: int) -> Array:
    return np.broadcast_to(values, (values.shape[0], width))


RULES: dict[str, Callable[..., Array]] = {
    "kernel.row_plan": row_plan,
    "kernel.combine": combine,
    "kernel.collect": collect,
    "kernel.dot": dot,
    "kernel.outer": outer,
    "kernel.sum": sum_rows,
    "kernel.row_dot": moe.row_dot,
    "kernel.row_sum": moe.row_sum,
    "kernel.broadcast": broadcast,
}
