"""What the op classes of `moe` share: checks on operands, with the user's words."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from ir.errors import (
    DtypeMismatch,
    GroupsDoNotDivide,
    IndexOverflow,
    IntegerActivation,
    RankMismatch,
    ShapeMismatch,
    Where,
)
from ir.types import Tensor

MOST_NUMBERED = 2**31 - 1  # the largest int32

Operands = Sequence[Tensor]
Attributes = Mapping[str, Any]
Results = tuple[Tensor, ...]


def check_rank(
    op: str, tensor: Tensor, rank: int, expected: str, fix: str, where: Where | None
) -> None:
    if len(tensor.shape) != rank:
        raise RankMismatch(
            where, op=op, expected=expected, got=tensor, rank=len(tensor.shape), fix=fix
        )


def check_choice(op: str, tensor: Tensor, where: Where | None) -> None:
    fix = "pass what top_k, expert_choice or hash_choice returned"
    check_rank(op, tensor, 2, "a choice [tokens, k]", fix, where)
    if tensor.dtype != "int32":
        raise DtypeMismatch(
            where, op=op, expected="an int32 choice [tokens, k]", got=tensor, fix=fix
        )


def check_numbered(choice: Tensor, where: Where | None) -> None:
    """Raise unless the choices can be numbered in int32."""
    count = prod(choice.shape)
    if count > MOST_NUMBERED:
        tokens, k = choice.shape
        raise IndexOverflow(
            where,
            what=f"the {tokens:,} x {k} choices that dispatch sends to experts",
            count=count,
            limit=MOST_NUMBERED,
            fix="give the layer fewer tokens at a time, by a scan or over devices",
        )


def check_floats(op: str, tensor: Tensor, where: Where | None) -> None:
    if not tensor.is_float:
        raise IntegerActivation(where, op=op, got=tensor)


def check_same_choices(
    op: str, values: Tensor, choice: Tensor, where: Where | None
) -> None:
    check_choice(op, choice, where)
    check_floats(op, values, where)
    if values.shape != choice.shape:
        sizes = ", ".join(map(str, choice.shape))
        raise ShapeMismatch(
            where,
            op=op,
            expected=f"one number per choice [{sizes}]",
            got=values,
            fix="pass gates of the same tokens and k as the choice",
        )


def check_groups(tokens: int, groups: int, where: Where | None) -> None:
    """Raise unless `groups` divides `tokens`, naming the nearest numbers that do."""
    if groups >= 1 and tokens % groups == 0:
        return
    legal = [g for g in range(1, tokens + 1) if tokens % g == 0]
    below = max((g for g in legal if g < groups), default=1)
    above = min((g for g in legal if g > groups), default=legal[-1])
    fix = f"use {below} or {above} groups" if below != above else f"use {below}"
    raise GroupsDoNotDivide(where, tokens=tokens, groups=groups, fix=fix)
