"""The DSL's vocabulary: what a layer says beyond jax.numpy.

A layer is a plain function. Its positional arguments are tensors (`tensor("tokens
model")`), its keyword-only arguments are named sizes and options. Three ideas suffice:
rows go to experts (`dispatch`), experts multiply (`expert_matmul`), rows come back
(`combine`). Between them any elementwise jax.numpy function may stand; before them, in
a router, also sums, means, maxima and matrix products.

Products accumulate and return float32, whatever the dtype of their operands.
"""

from dataclasses import dataclass
from typing import Literal, cast

import jax
import jax.numpy as jnp
import numpy as np

from ir.errors import (
    BadName,
    CapacityBelowOneRow,
    CapacityNotPositive,
    DuplicateParameter,
    RankMismatch,
    ShapeMismatch,
    WrongArgument,
)
from ir.moe import check_groups
from ir.types import Tensor
from moegen.arguments import (
    require_axes,
    require_dtype,
    require_init,
    require_name,
    require_number,
    require_tensors,
    require_whole,
)
from moegen.initializers import Init, fan_in
from moegen.losses import count, load_balance, loss, metric, z_loss
from moegen.places import user_place
from moegen.primitives import PARAM, apply
from moegen.routing import known_routing, record_load, remember, routing_of
from moegen.session import Parameter, current

Priority = Literal["choice", "token"]


@dataclass(frozen=True)
class Input:
    """A tensor argument of a layer, as `tensor` declares it."""

    axes: tuple[str, ...]
    dtype: str | None
    default: str | None


def tensor(
    axes: str,
    dtype: str | None = None,
    default: Literal["ones", "uniform"] | None = None,
) -> jax.Array:
    """Declare a tensor argument: its axes by name, and its dtype (the layer's if None).

    With `default="ones"` a caller may leave it out; with `default="uniform"` it is
    drawn from U[0, 1) with the key given to the op. Used as the argument's default.
    Raises `WrongArgument`.
    """
    names = require_axes("tensor", axes)
    if default not in (None, "ones", "uniform"):
        reason = "leave it out, or write ones or uniform"
        raise WrongArgument(
            user_place(),
            op="tensor",
            expected="a default of ones or uniform",
            got=f"{default!r}",
            fix=reason,
        )
    kind = None if dtype is None else require_dtype("tensor", dtype)
    return cast(jax.Array, Input(names, kind, default))


def param(
    name: str, axes: str, init: Init | None = None, dtype: str | None = None
) -> jax.Array:
    """Declare a parameter: its axes by name, its initialiser and its dtype.

    Without `init` it starts as U(+-sqrt(3 / fan-in)), where fan-in is the second-last
    axis (never multiplied by the experts). Raises `UnknownAxis`, `SizeNotPositive`,
    `DuplicateParameter`, `BadName`, `WrongArgument`.
    """
    session, where = current("param"), user_place()
    require_name("parameter", name)
    names = require_axes(f"the parameter '{name}'", axes)
    if name in session.inputs:
        why, fix = "an input of the layer has that name", "rename one"
        raise BadName(where, kind="parameter", name=f"'{name}'", why=why, fix=fix)
    shape = session.shape(names, f"the parameter '{name}'", where)
    if name in session.parameters:
        first = session.parameters[name].where
        raise DuplicateParameter(where, name=name, first=first)
    made = init or fan_in(names[-2] if len(names) > 1 else names[0])
    require_init(f"the parameter '{name}'", made)
    session.shape(made.axes, f"the initialiser of '{name}'", where)
    own = require_dtype(f"the parameter '{name}'", dtype or session.dtype)
    declared = Tensor(shape, own, name)
    resolved = made.resolve(session.sizes)
    session.parameters[name] = Parameter(name, declared, names, resolved, where)
    array = PARAM.bind(name=name, shape=shape, dtype=declared.dtype, where=where)
    sizes = ", ".join(f"{a}={n}" for a, n in zip(names, shape, strict=True))
    session.label(array, f"{name} ({sizes})")
    return cast(jax.Array, array)


def matmul(x: jax.Array, w: jax.Array) -> jax.Array:
    """x [..., A] @ w [A, B] -> float32 [..., B], in the wider of the two dtypes."""
    session, where = current("matmul"), user_place()
    require_tensors("matmul", x, w)
    left, right = session.describe(x), session.describe(w)
    fix = "declare the weights as [width in, width out]"
    if len(right.shape) != 2:
        expected = "weights [in, out]"
        raise RankMismatch(
            where,
            op="matmul",
            expected=expected,
            got=right,
            rank=len(right.shape),
            fix=fix,
        )
    if not left.shape or left.shape[-1] != right.shape[0]:
        expected = f"an input of width {right.shape[0]} for {right}"
        fix = f"the weights' first axis must be {left.shape[-1] if left.shape else 1}"
        raise ShapeMismatch(where, op="matmul", expected=expected, got=left, fix=fix)
    dtype = jnp.promote_types(x.dtype, w.dtype)
    return jax.lax.dot_general(
        x.astype(dtype),
        w.astype(dtype),
        (((x.ndim - 1,), (0,)), ((), ())),
        preferred_element_type=np.dtype(np.float32),
    )


def softmax(logits: jax.Array) -> jax.Array:
    """Softmax over the experts, in float32."""
    return apply("moe.softmax", logits)


def top_k(scores: jax.Array, k: int) -> jax.Array:
    """The choice int32 [tokens, k] of the k experts with the highest scores.

    Ties go to the lower index. Raises `TooManyChoices`, `TooFewChoices`.
    """
    choice = apply("moe.top_k", scores, k=k)
    remember(choice, scores.shape[1], choice.size)
    return choice


def expert_choice(scores: jax.Array, capacity: int) -> jax.Array:
    """Experts choose tokens: each takes its `capacity` best (Zhou et al. 2022).

    Returns a choice int32 [tokens, experts], -1 where an expert did not take a token.
    """
    choice = apply("moe.expert_choice", scores, capacity=capacity)
    remember(choice, scores.shape[1], scores.shape[1] * capacity)
    return choice


def hash_choice(ids: jax.Array, experts: int, k: int = 1, seed: int = 0) -> jax.Array:
    """A fixed pseudo-random choice [tokens, k] from token ids (Roller et al. 2021)."""
    choice = apply("moe.hash", ids, experts=experts, k=k, seed=seed)
    remember(choice, experts, choice.size)
    return choice


def take(scores: jax.Array, choice: jax.Array) -> jax.Array:
    """The chosen experts' scores [tokens, k]; 0 for a dropped choice."""
    return apply("moe.take", scores, choice)


def normalize(gates: jax.Array, epsilon: float = 1e-9) -> jax.Array:
    """Gates divided by their sum over k plus `epsilon` (GShard, algorithm 1)."""
    return gates / (jnp.sum(gates, axis=-1, keepdims=True) + epsilon)


def drop(choice: jax.Array, keep: jax.Array) -> jax.Array:
    """The choice with -1 wherever `keep` is false; keep is [tokens] or [tokens, k]."""
    require_tensors("drop", choice, keep)
    if keep.dtype != bool or keep.shape not in (choice.shape, choice.shape[:1]):
        session = current("drop")
        raise ShapeMismatch(
            user_place(),
            op="drop",
            expected=f"a bool for each token or choice of {session.describe(choice)}",
            got=session.describe(keep),
            fix="pass bool [tokens] or [tokens, k]",
        )
    mask = keep if keep.ndim == 2 else jnp.broadcast_to(keep[:, None], choice.shape)
    kept = jnp.where(mask, choice, -1)
    known = routing_of(choice)
    if known:
        remember(kept, known.experts, known.rows)
    return kept


def capacity(
    tokens: int, experts: int, factor: float, groups: int = 1, multiple: int = 4
) -> int:
    """Rows per expert and group: int(tokens/groups * factor / experts), rounded up.

    Rounded up to a multiple of `multiple` (GLaM's public code: 4). Raises
    `CapacityNotPositive`, `CapacityBelowOneRow`, `GroupsDoNotDivide`.
    """
    where = user_place()
    for name, size in (("tokens", tokens), ("experts", experts), ("groups", groups)):
        require_whole("capacity", name, size)
    require_number("capacity", "its factor", factor)
    multiple = max(1, require_whole("capacity", "multiple", multiple))
    check_groups(tokens, groups, where)
    group = tokens // groups
    rows = group * factor / experts
    if rows <= 0:
        raise CapacityNotPositive(where, capacity=f"{rows:g}")
    if rows < 1:
        least = experts / group
        raise CapacityBelowOneRow(
            where, tokens=group, factor=factor, experts=experts, rows=rows, least=least
        )
    return -(-int(rows) // multiple) * multiple


def assign(
    choice: jax.Array, capacity: int, groups: int = 1, priority: Priority = "choice"
) -> jax.Array:
    """Drop what is over capacity: at most `capacity` rows per expert and group.

    Priority "choice": every first choice before any second; "token": in token order.
    """
    known = known_routing(choice, "assign", None)
    # More places than there are choices are as good as that many.
    capacity = min(require_whole("assign", "capacity", capacity), choice.size)
    kept = apply(
        "moe.assign",
        choice,
        experts=known.experts,
        capacity=capacity,
        groups=groups,
        priority=priority,
    )
    remember(kept, known.experts, min(known.rows, capacity * groups * known.experts))
    return kept


def dispatch(x: jax.Array, choice: jax.Array, experts: int | None = None) -> jax.Array:
    """Rows go to experts: x [tokens, width] -> rows, one for each kept choice.

    `experts` is needed only for a choice that no function of this module made.
    """
    known = known_routing(choice, "dispatch", experts)
    rows = apply("moe.dispatch", x, choice, experts=known.experts, rows=known.rows)
    record_load(choice, known)
    current("dispatch").tokens[known.rows] = choice.shape[0]
    return rows


def dispatch_choices(
    values: jax.Array, choice: jax.Array, experts: int | None = None
) -> jax.Array:
    """Numbers per choice [tokens, k], such as gates, as rows of width 1."""
    known = known_routing(choice, "dispatch_choices", experts)
    return apply(
        "moe.dispatch_choices", values, choice, experts=known.experts, rows=known.rows
    )


def expert_matmul(
    rows: jax.Array, weights: jax.Array, transposed: bool = False
) -> jax.Array:
    """Experts multiply: each row by its own expert's matrix [experts, in, out].

    With `transposed` the matrices are [experts, out, in]; on a CPU that is faster.
    """
    return apply("moe.expert_matmul", rows, weights, transposed=transposed)


def expert_bias(rows: jax.Array, bias: jax.Array) -> jax.Array:
    """Add to each row its own expert's vector [experts, width]."""
    require_tensors("expert_bias", rows, bias)
    session = current("expert_bias")
    if bias.ndim == 2 and bias.shape[1:] != rows.shape[1:]:
        raise ShapeMismatch(
            user_place(),
            op="expert_bias",
            expected=f"a bias [experts, width] for {session.describe(rows)}",
            got=session.describe(bias),
            fix=f"the bias' last axis must be {rows.shape[-1]}",
        )
    return rows + apply("moe.expert_bias", rows, bias, rows=rows.shape[0])


def combine(rows: jax.Array, gates: jax.Array | None = None) -> jax.Array:
    """Rows come back: float32 [tokens, width], the sum over k of gate * row."""
    operands = (rows,) if gates is None else (rows, gates)
    return apply("moe.combine", *operands, dtype="float32")


__all__ = [
    "Input",
    "assign",
    "capacity",
    "combine",
    "count",
    "dispatch",
    "dispatch_choices",
    "drop",
    "expert_bias",
    "expert_choice",
    "expert_matmul",
    "hash_choice",
    "load_balance",
    "loss",
    "matmul",
    "metric",
    "normalize",
    "param",
    "softmax",
    "take",
    "tensor",
    "top_k",
    "z_loss",
]
