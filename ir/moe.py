"""The dialect `moe`: what a mixture-of-experts layer means.

Tensors are MLIR's own. Sizes in the tables below: T tokens, K choices a token, E
experts, R rows (the static bound on routed rows), A and B widths.

A *choice* is an int32 tensor [T, K] of expert ids; -1 stands for "dropped" and has no
effect anywhere. *Rows* are float tensors [R, A] made by `moe.dispatch`: one row for
each kept choice, ordered by (expert, flat choice t*K + k); the rows past the last kept
choice are exactly zero. Ops on rows take the choice that made them, from which they
know each row's expert.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ir.errors import (
    CapacityNotPositive,
    CapacityTooLarge,
    DtypeMismatch,
    GroupsDoNotDivide,
    IntegerActivation,
    RankMismatch,
    ShapeMismatch,
    TooFewChoices,
    TooManyChoices,
    Where,
)
from ir.op import Op
from ir.types import Tensor

Operands = Sequence[Tensor]
Attributes = Mapping[str, Any]
Results = tuple[Tensor, ...]

PRIORITIES = ("choice", "token")


def _rank(op: str, tensor: Tensor, rank: int, expected: str, fix: str, where: Where | None) -> None:
    if len(tensor.shape) != rank:
        raise RankMismatch(
            where, op=op, expected=expected, got=tensor, rank=len(tensor.shape), fix=fix
        )


def _choice(op: str, tensor: Tensor, where: Where | None) -> None:
    fix = "pass what top_k, expert_choice or hash_choice returned"
    _rank(op, tensor, 2, "a choice [tokens, k]", fix, where)
    if tensor.dtype != "int32":
        raise DtypeMismatch(
            where, op=op, expected="an int32 choice [tokens, k]", got=tensor, fix=fix
        )


def _floats(op: str, tensor: Tensor, where: Where | None) -> None:
    if not tensor.is_float:
        raise IntegerActivation(where, op=op, got=tensor)


class Softmax(Op):
    """Softmax over the last axis, in float32: exp(x - max) / sum (Du et al. 2021, 3)."""

    OPERATION_NAME = "moe.softmax"
    OPERANDS = ("logits [T, E]",)
    RESULTS = ("scores f32[T, E]",)

    @classmethod
    def infer(cls, operands: Operands, attributes: Attributes, where: Where | None) -> Results:
        (logits,) = operands
        _floats("softmax", logits, where)
        return (Tensor(logits.shape, "float32"),)


class SoftmaxGrad(Op):
    """Gradient of `moe.softmax`: scores * (d - sum(d * scores))."""

    OPERATION_NAME = "moe.softmax_grad"
    OPERANDS = ("scores f32[T, E]", "d f32[T, E]")
    RESULTS = ("d_logits f32[T, E]",)

    @classmethod
    def infer(cls, operands: Operands, attributes: Attributes, where: Where | None) -> Results:
        return (Tensor(operands[0].shape, "float32"),)


class TopK(Op):
    """The `k` experts of highest score for each token; ties go to the lower index.

    A NaN ranks above every number, so that ids stay legal and the poison stays in its
    own token. Integers have no gradient.
    """

    OPERATION_NAME = "moe.top_k"
    OPERANDS = ("scores [T, E]",)
    RESULTS = ("choice i32[T, K]",)
    ATTRIBUTES = {"k": int}

    @classmethod
    def infer(cls, operands: Operands, attributes: Attributes, where: Where | None) -> Results:
        (scores,) = operands
        fix = "pass one row of scores per token"
        _rank("top_k", scores, 2, "scores [tokens, experts]", fix, where)
        k, experts = attributes["k"], scores.shape[1]
        if k < 1:
            raise TooFewChoices(where, k=k)
        if k > experts:
            raise TooManyChoices(where, k=k, experts=experts)
        return (Tensor((scores.shape[0], k), "int32"),)


class ExpertChoice(Op):
    """Each expert takes the `capacity` tokens of highest score (Zhou et al. 2022).

    Column e of the choice holds e where expert e took the token, else -1; ties go to
    the lower token. A NaN ranks below every number, so that a poisoned token takes no
    other token's place.
    """

    OPERATION_NAME = "moe.expert_choice"
    OPERANDS = ("scores [T, E]",)
    RESULTS = ("choice i32[T, E]",)
    ATTRIBUTES = {"capacity": int}

    @classmethod
    def infer(cls, operands: Operands, attributes: Attributes, where: Where | None) -> Results:
        (scores,) = operands
        fix = "pass one row of scores per token"
        _rank("expert_choice", scores, 2, "scores [tokens, experts]", fix, where)
        capacity = attributes["capacity"]
        if capacity < 1:
            raise CapacityNotPositive(where, capacity=capacity)
        if capacity > scores.shape[0]:
            raise CapacityTooLarge(where, capacity=capacity, tokens=scores.shape[0])
        return (Tensor(scores.shape, "int32"),)


class Hash(Op):
    """A fixed pseudo-random expert for each token id (Roller et al. 2021).

    expert = ((id * 2654435761 + seed * 40503) mod 2^32 >> 8) mod E, in unsigned 32-bit
    arithmetic; choice k of a token takes seed + k.
    """

    OPERATION_NAME = "moe.hash"
    OPERANDS = ("ids i32[T]",)
    RESULTS = ("choice i32[T, K]",)
    ATTRIBUTES = {"experts": int, "k": int, "seed": int}

    @classmethod
    def infer(cls, operands: Operands, attributes: Attributes, where: Where | None) -> Results:
        (ids,) = operands
        fix = "pass the int32 token ids [tokens]"
        _rank("hash_choice", ids, 1, "token ids [tokens]", fix, where)
        if ids.dtype != "int32":
            raise DtypeMismatch(
                where, op="hash_choice", expected="int32 token ids", got=ids, fix=fix
            )
        if attributes["k"] < 1:
            raise TooFewChoices(where, k=attributes["k"])
        return (Tensor((ids.shape[0], attributes["k"]), "int32"),)


class Take(Op):
    """The scores of the chosen experts; 0 for a dropped choice."""

    OPERATION_NAME = "moe.take"
    OPERANDS = ("scores [T, E]", "choice i32[T, K]")
    RESULTS = ("values [T, K]",)

    @classmethod
    def infer(cls, operands: Operands, attributes: Attributes, where: Where | None) -> Results:
        scores, choice = operands
        _choice("take", choice, where)
        fix = "pass scores with one row per token of the choice"
        _rank("take", scores, 2, "scores [tokens, experts]", fix, where)
        if scores.shape[0] != choice.shape[0]:
            raise ShapeMismatch(
                where, op="take", expected=f"scores of {choice.shape[0]} tokens", got=scores, fix=fix
            )
        return (Tensor(choice.shape, scores.dtype),)


class Put(Op):
    """Transpose of `moe.take`: [T, E] zeros with each value added at its expert."""

    OPERATION_NAME = "moe.put"
    OPERANDS = ("values [T, K]", "choice i32[T, K]")
    RESULTS = ("d_scores [T, E]",)
    ATTRIBUTES = {"experts": int}

    @classmethod
    def infer(cls, operands: Operands, attributes: Attributes, where: Where | None) -> Results:
        values, choice = operands
        return (Tensor((choice.shape[0], attributes["experts"]), values.dtype),)


class Assign(Op):
    """Give each choice a place in its expert, and drop what is over capacity.

    Tokens come in `groups` equal consecutive groups. Within a group an expert has
    `capacity` places, given by `priority`: "choice", every first choice in token order,
    then every second, ... (GShard; GLaM); "token", in flat order t*K + k.
    """

    OPERATION_NAME = "moe.assign"
    OPERANDS = ("choice i32[T, K]",)
    RESULTS = ("kept i32[T, K]",)
    ATTRIBUTES = {"experts": int, "capacity": int, "groups": int, "priority": str}

    @classmethod
    def infer(cls, operands: Operands, attributes: Attributes, where: Where | None) -> Results:
        (choice,) = operands
        _choice("assign", choice, where)
        tokens, groups = choice.shape[0], attributes["groups"]
        check_groups(tokens, groups, where)
        capacity, priority = attributes["capacity"], attributes["priority"]
        if capacity < 1:
            raise CapacityNotPositive(where, capacity=capacity)
        if priority not in PRIORITIES:
            raise ShapeMismatch(
                where,
                op="assign",
                expected=f"a priority of {' or '.join(PRIORITIES)}",
                got=f"'{priority}'",
                fix="pass one of these",
            )
        return (Tensor(choice.shape, "int32"),)


def check_groups(tokens: int, groups: int, where: Where | None) -> None:
    """Raise unless `groups` divides `tokens`, naming the nearest numbers that do."""
    if groups >= 1 and tokens % groups == 0:
        return
    legal = [g for g in range(1, tokens + 1) if tokens % g == 0]
    below = max((g for g in legal if g < groups), default=1)
    above = min((g for g in legal if g > groups), default=legal[-1])
    fix = f"use {below} or {above} groups" if below != above else f"use {below}"
    raise GroupsDoNotDivide(where, tokens=tokens, groups=groups, fix=fix)


class Count(Op):
    """How many choices each expert has in each group; -1 counts nowhere."""

    OPERATION_NAME = "moe.count"
    OPERANDS = ("choice i32[T, K]",)
    RESULTS = ("counts i32[groups, E]",)
    ATTRIBUTES = {"experts": int, "groups": int}

    @classmethod
    def infer(cls, operands: Operands, attributes: Attributes, where: Where | None) -> Results:
        (choice,) = operands
        _choice("count", choice, where)
        check_groups(choice.shape[0], attributes["groups"], where)
        return (Tensor((attributes["groups"], attributes["experts"]), "int32"),)


class Dispatch(Op):
    """Rows go to experts: one copy of its token for each kept choice.

    `rows` bounds how many choices can be kept: T*K, or less where capacity says so.
    """

    OPERATION_NAME = "moe.dispatch"
    OPERANDS = ("x [T, A]", "choice i32[T, K]")
    RESULTS = ("rows [R, A]",)
    ATTRIBUTES = {"experts": int, "rows": int}

    @classmethod
    def infer(cls, operands: Operands, attributes: Attributes, where: Where | None) -> Results:
        x, choice = operands
        _choice("dispatch", choice, where)
        fix = "pass one row per token of the choice"
        _rank("dispatch", x, 2, "tokens [tokens, width]", fix, where)
        _floats("dispatch", x, where)
        if x.shape[0] != choice.shape[0]:
            raise ShapeMismatch(
                where, op="dispatch", expected=f"{choice.shape[0]} tokens", got=x, fix=fix
            )
        return (Tensor((attributes["rows"], x.shape[1]), x.dtype),)


class DispatchChoices(Op):
    """Numbers given per choice, such as gates, brought to the rows: [T, K] -> [R, 1]."""

    OPERATION_NAME = "moe.dispatch_choices"
    OPERANDS = ("values [T, K]", "choice i32[T, K]")
    RESULTS = ("rows [R, 1]",)
    ATTRIBUTES = {"experts": int, "rows": int}

    @classmethod
    def infer(cls, operands: Operands, attributes: Attributes, where: Where | None) -> Results:
        values, choice = operands
        _same_choices("dispatch_choices", values, choice, where)
        return (Tensor((attributes["rows"], 1), values.dtype),)


def _same_choices(op: str, values: Tensor, choice: Tensor, where: Where | None) -> None:
    _choice(op, choice, where)
    _floats(op, values, where)
    if values.shape != choice.shape:
        sizes = ", ".join(map(str, choice.shape))
        raise ShapeMismatch(
            where,
            op=op,
            expected=f"one number per choice [{sizes}]",
            got=values,
            fix="pass gates of the same tokens and k as the choice",
        )


class Collect(Op):
    """Transpose of `moe.dispatch_choices`: [R, 1] -> [T, K], 0 for a dropped choice."""

    OPERATION_NAME = "moe.collect"
    OPERANDS = ("rows [R, 1]", "choice i32[T, K]")
    RESULTS = ("values [T, K]",)
    ATTRIBUTES = {"experts": int}

    @classmethod
    def infer(cls, operands: Operands, attributes: Attributes, where: Where | None) -> Results:
        rows, choice = operands
        return (Tensor(choice.shape, rows.dtype),)


class ExpertMatmul(Op):
    """Experts multiply: each row by the matrix of its own expert.

    Operands are multiplied in the weights' dtype and accumulated in float32. With
    `transposed` the row meets the matrix' last axis: rows [R, B] by [E, A, B]^T.
    """

    OPERATION_NAME = "moe.expert_matmul"
    OPERANDS = ("rows [R, A]", "weights [E, A, B]", "choice i32[T, K]")
    RESULTS = ("rows f32[R, B]",)
    ATTRIBUTES = {"transposed": bool}

    @classmethod
    def infer(cls, operands: Operands, attributes: Attributes, where: Where | None) -> Results:
        rows, weights, _ = operands
        op = "expert_matmul"
        _floats(op, rows, where)
        fix = "declare the weights as [experts, width in, width out]"
        _rank(op, weights, 3, "weights [experts, in, out]", fix, where)
        _rank(op, rows, 2, "rows [rows, width]", "pass what dispatch returned", where)
        _, inner, outer = weights.shape
        if attributes["transposed"]:
            inner, outer = outer, inner
        if rows.shape[1] != inner:
            raise ShapeMismatch(
                where,
                op=op,
                expected=f"rows of width {inner} for {weights}",
                got=rows,
                fix=f"the weights' second axis must be {rows.shape[1]}",
            )
        return (Tensor((rows.shape[0], outer), "float32"),)


class ExpertOuter(Op):
    """Gradient of the weights: for each expert the sum over its rows of a^T b.

    Accumulated in float32; exactly zero for an expert without rows.
    """

    OPERATION_NAME = "moe.expert_outer"
    OPERANDS = ("a [R, A]", "b [R, B]", "choice i32[T, K]")
    RESULTS = ("d_weights [E, A, B]",)
    ATTRIBUTES = {"experts": int, "dtype": str}

    @classmethod
    def infer(cls, operands: Operands, attributes: Attributes, where: Where | None) -> Results:
        a, b, _ = operands
        shape = (attributes["experts"], a.shape[1], b.shape[1])
        return (Tensor(shape, attributes["dtype"]),)


class ExpertBias(Op):
    """The bias vector of each row's expert: [E, B] -> [R, B]; zero past the last row."""

    OPERATION_NAME = "moe.expert_bias"
    OPERANDS = ("bias [E, B]", "choice i32[T, K]")
    RESULTS = ("rows [R, B]",)
    ATTRIBUTES = {"rows": int}

    @classmethod
    def infer(cls, operands: Operands, attributes: Attributes, where: Where | None) -> Results:
        bias, choice = operands
        _choice("expert_bias", choice, where)
        fix = "declare the bias as [experts, width]"
        _rank("expert_bias", bias, 2, "a bias [experts, width]", fix, where)
        return (Tensor((attributes["rows"], bias.shape[1]), "float32"),)


class ExpertSum(Op):
    """Gradient of a bias: the sum of each expert's rows, in float32; zero if none."""

    OPERATION_NAME = "moe.expert_sum"
    OPERANDS = ("rows [R, B]", "choice i32[T, K]")
    RESULTS = ("d_bias [E, B]",)
    ATTRIBUTES = {"experts": int, "dtype": str}

    @classmethod
    def infer(cls, operands: Operands, attributes: Attributes, where: Where | None) -> Results:
        shape = (attributes["experts"], operands[0].shape[1])
        return (Tensor(shape, attributes["dtype"]),)


class RowDot(Op):
    """The inner product of two rows, in float32: sum(a * b) over the width."""

    OPERATION_NAME = "moe.row_dot"
    OPERANDS = ("a [R, A]", "b [R, A]")
    RESULTS = ("dots f32[R, 1]",)

    @classmethod
    def infer(cls, operands: Operands, attributes: Attributes, where: Where | None) -> Results:
        return (Tensor((operands[0].shape[0], 1), "float32"),)


class RowSum(Op):
    """The sum over the last axis, in float32, kept as an axis of size 1."""

    OPERATION_NAME = "moe.row_sum"
    OPERANDS = ("a [R, A]",)
    RESULTS = ("sums f32[R, 1]",)

    @classmethod
    def infer(cls, operands: Operands, attributes: Attributes, where: Where | None) -> Results:
        return (Tensor((operands[0].shape[0], 1), "float32"),)


class Combine(Op):
    """Rows come back: for each token the sum over k of gate * row, in that order.

    A gather, so that reruns agree bit for bit; accumulated in float32. Without gates
    the rows are summed as they are. A token with no kept choice gets exactly zero.
    """

    OPERATION_NAME = "moe.combine"
    OPERANDS = ("rows [R, A]", "choice i32[T, K]", "gates [T, K] (optional)")
    RESULTS = ("y [T, A]",)
    ATTRIBUTES = {"experts": int, "dtype": str}

    @classmethod
    def infer(cls, operands: Operands, attributes: Attributes, where: Where | None) -> Results:
        rows, choice, *gates = operands
        _choice("combine", choice, where)
        _floats("combine", rows, where)
        _rank("combine", rows, 2, "rows [rows, width]", "pass rows of a dispatch", where)
        for gate in gates:
            _same_choices("combine", gate, choice, where)
        return (Tensor((choice.shape[0], rows.shape[1]), attributes["dtype"]),)


class Map(Op):
    """An elementwise function of tensors of one shape, written over scalars.

    The first region is the function, in stablehlo and chlo over rank-0 tensors; the
    second takes the same scalars and the results' cotangents, and yields the operands'
    cotangents. Both were traced from the user's own function, so custom derivatives
    (such as that of jax.nn.relu at 0) are kept. Integer functions have no second region.
    """

    OPERATION_NAME = "moe.map"
    OPERANDS = ("operands ...",)
    RESULTS = ("results ...",)
    ATTRIBUTES = {"name": str, "results": list}
    REGIONS = ("function", "vjp")

    @classmethod
    def infer(cls, operands: Operands, attributes: Attributes, where: Where | None) -> Results:
        shapes = {operand.shape for operand in operands}
        if len(shapes) != 1:
            raise ShapeMismatch(
                where,
                op="map",
                expected="operands of one shape",
                got=" and ".join(map(str, operands)),
                fix="broadcast them first",
            )
        return tuple(Tensor(operands[0].shape, dtype) for dtype in attributes["results"])


class Yield(Op):
    """Ends a region of `moe.map` with the function's results."""

    OPERATION_NAME = "moe.yield"
    OPERANDS = ("results ...",)

    @classmethod
    def infer(cls, operands: Operands, attributes: Attributes, where: Where | None) -> Results:
        return ()
