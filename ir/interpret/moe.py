"""The dialect `moe`, one function an op: operands in, attributes by name."""

from collections.abc import Callable

import numpy as np

from ir.interpret.arrays import Array
from ir.interpret.rows import check_choice, row_of_choice, segments


def softmax(logits: Array) -> Array:
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))


def softmax_grad(scores: Array, d: Array) -> Array:
    return np.asarray(scores * (d - (d * scores).sum(axis=-1, keepdims=True)))


def best_first(scores: Array) -> Array:
    """Indices along the last axis: NaN, then falling scores; ties by lower index."""
    nan = np.isnan(scores)
    falling = -np.where(nan, 0.0, scores)
    return np.lexsort((falling, ~nan), axis=-1)


def top_k(scores: Array, *, k: int) -> Array:
    return best_first(scores)[:, :k]


def expert_choice(scores: Array, *, capacity: int) -> Array:
    choice = np.full(scores.shape, -1)
    for expert in range(scores.shape[1]):
        column = scores[:, expert]
        # A NaN ranks last: a poisoned token must not take another token's place.
        taken = best_first(np.where(np.isnan(column), -np.inf, column))[:capacity]
        choice[taken, expert] = expert
    return choice


def hash_ids(ids: Array, *, experts: int, k: int, seed: int) -> Array:
    choice = np.zeros((ids.shape[0], k), np.int32)
    for token, number in enumerate(ids.tolist()):
        for j in range(k):
            mixed = (number * 2654435761 + (seed + j) * 40503) % 2**32
            choice[token, j] = (mixed >> 8) % experts
    return choice


def take(scores: Array, choice: Array) -> Array:
    check_choice(choice, scores.shape[1])
    values = np.zeros(choice.shape, scores.dtype)
    for t, k in np.argwhere(choice >= 0):
        values[t, k] = scores[t, choice[t, k]]
    return values


def put(values: Array, choice: Array, *, experts: int) -> Array:
    check_choice(choice, experts)
    d_scores = np.zeros((choice.shape[0], experts), values.dtype)
    for t, k in np.argwhere(choice >= 0):
        d_scores[t, choice[t, k]] += values[t, k]
    return d_scores


def assign(
    choice: Array, *, experts: int, capacity: int, groups: int, priority: str
) -> Array:
    check_choice(choice, experts)
    tokens, ks = choice.shape
    size = tokens // groups
    kept = np.full(choice.shape, -1)
    for group in range(groups):
        places = [0] * experts
        members = range(group * size, (group + 1) * size)
        if priority == "choice":
            order = [(t, k) for k in range(ks) for t in members]
        else:
            order = [(t, k) for t in members for k in range(ks)]
        for t, k in order:
            expert = int(choice[t, k])
            if expert >= 0 and places[expert] < capacity:
                places[expert] += 1
                kept[t, k] = expert
    return kept


def count(choice: Array, *, experts: int, groups: int) -> Array:
    check_choice(choice, experts)
    counts = np.zeros((groups, experts), np.int32)
    for group, members in enumerate(np.split(choice, groups)):
        for expert in members[members >= 0]:
            counts[group, expert] += 1
    return counts


def dispatch(x: Array, choice: Array, *, experts: int, rows: int) -> Array:
    out = np.zeros((rows, x.shape[1]), x.dtype)
    for segment in segments(choice, experts, rows):
        out[segment.rows] = x[segment.choices // choice.shape[1]]
    return out


def dispatch_choices(values: Array, choice: Array, *, experts: int, rows: int) -> Array:
    out = np.zeros((rows, 1), values.dtype)
    for segment in segments(choice, experts, rows):
        out[segment.rows, 0] = values.reshape(-1)[segment.choices]
    return out


def collect(rows: Array, choice: Array, *, experts: int) -> Array:
    values = np.zeros(choice.size, rows.dtype)
    for segment in segments(choice, experts, rows.shape[0]):
        values[segment.choices] = rows[segment.rows, 0]
    return values.reshape(choice.shape)


def expert_matmul(
    rows: Array, weights: Array, choice: Array, *, transposed: bool
) -> Array:
    width = weights.shape[1 if transposed else 2]
    out = np.zeros((rows.shape[0], width), rows.dtype)
    for segment in segments(choice, weights.shape[0], rows.shape[0]):
        matrix = weights[segment.expert]
        out[segment.rows] = rows[segment.rows] @ (matrix.T if transposed else matrix)
    return out


def expert_outer(a: Array, b: Array, choice: Array, *, experts: int) -> Array:
    d_weights = np.zeros((experts, a.shape[1], b.shape[1]))
    for segment in segments(choice, experts, a.shape[0]):
        mine = d_weights[segment.expert]
        np.matmul(a[segment.rows].T, b[segment.rows], out=mine)
    return d_weights


def expert_bias(bias: Array, choice: Array, *, rows: int) -> Array:
    out = np.zeros((rows, bias.shape[1]), bias.dtype)
    for segment in segments(choice, bias.shape[0], rows):
        out[segment.rows] = bias[segment.expert]
    return out


def expert_sum(rows: Array, choice: Array, *, experts: int) -> Array:
    d_bias = np.zeros((experts, rows.shape[1]), rows.dtype)
    for segment in segments(choice, experts, rows.shape[0]):
        d_bias[segment.expert] = rows[segment.rows].sum(axis=0)
    return d_bias


def row_dot(a: Array, b: Array) -> Array:
    return np.asarray((a * b).sum(axis=1, keepdims=True))


def row_sum(a: Array) -> Array:
    return np.asarray(a.sum(axis=1, keepdims=True))


def combine(
    rows: Array, choice: Array, gates: Array | None = None, *, experts: int
) -> Array:
    y = np.zeros((choice.shape[0], rows.shape[1]))
    places = row_of_choice(choice, experts, rows.shape[0])
    for t, k in np.argwhere(choice >= 0):
        row = rows[places[t, k]]
        y[t] += row if gates is None else gates[t, k] * row
    return y


RULES: dict[str, Callable[..., Array]] = {
    "moe.softmax": softmax,
    "moe.softmax_grad": softmax_grad,
    "moe.top_k": top_k,
    "moe.expert_choice": expert_choice,
    "moe.hash": hash_ids,
    "moe.take": take,
    "moe.put": put,
    "moe.assign": assign,
    "moe.count": count,
    "moe.dispatch": dispatch,
    "moe.dispatch_choices": dispatch_choices,
    "moe.collect": collect,
    "moe.expert_matmul": expert_matmul,
    "moe.expert_outer": expert_outer,
    "moe.expert_bias": expert_bias,
    "moe.expert_sum": expert_sum,
    "moe.row_dot": row_dot,
    "moe.row_sum": row_sum,
    "moe.combine": combine,
}
