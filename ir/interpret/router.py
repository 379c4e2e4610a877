"""`kernel.router`, group by group, and the ops that only its block programs hold."""

from collections.abc import Callable, Sequence

import numpy as np

from ir.interpret.arrays import Array
from ir.interpret.kernel import Program
from ir.interpret.rows import check_choice

_REDUCTIONS: dict[str, np.ufunc] = {
    "add": np.add,
    "multiply": np.multiply,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
}


def router(
    program: Program,
    operands: Sequence[Array],
    *,
    tokens: int,
    groups: int,
    operand_kinds: Sequence[str],
    result_kinds: Sequence[str],
    results: list[Array],
) -> list[Array]:
    """Fill `results`, given as zeros, by one block for each group."""
    size = tokens // groups
    for group in range(groups):
        members = slice(group * size, (group + 1) * size)
        fetched = [
            _fetch(kind, operand, members, group)
            for kind, operand in zip(operand_kinds, operands, strict=True)
        ]
        yielded = program(fetched, size)
        for kind, result, value in zip(result_kinds, results, yielded, strict=True):
            if kind == "sum":
                result += value
            else:
                result[members if kind == "token" else group] = value
    return results


def _fetch(kind: str, operand: Array, members: slice, group: int) -> Array:
    if kind == "whole":
        return operand
    if kind == "group":
        return np.asarray(operand[group])
    own = operand[members]
    return own if own.ndim > 1 else own[:, None]


def row_reduce(a: Array, *, by: str) -> Array:
    return np.asarray(_REDUCTIONS[by].reduce(a, axis=1, keepdims=True))


def columns(a: Array, *, start: int, limit: int) -> Array:
    return a[:, start:limit]


def count(choice: Array, *, experts: int) -> Array:
    check_choice(choice, experts)
    counts = np.zeros((choice.shape[0], experts), np.int32)
    for token, k in np.argwhere(choice >= 0):
        counts[token, choice[token, k]] += 1
    return counts


RULES: dict[str, Callable[..., Array]] = {
    "kernel.row_reduce": row_reduce,
    "kernel.columns": columns,
    "kernel.count": count,
}
