"""Ops that choose experts: scores, choices, capacity, counts."""

from ir.errors import (
    CapacityNotPositive,
    CapacityTooLarge,
    DtypeMismatch,
    ShapeMismatch,
    TooFewChoices,
    TooManyChoices,
    Where,
)
from ir.moe.checks import (
    Attributes,
    Operands,
    Results,
    check_choice,
    check_floats,
    check_groups,
    check_rank,
)
from ir.op import Op
from ir.types import Tensor

PRIORITIES = ("choice", "token")


class Softmax(Op):
    """Softmax over the last axis, in float32: exp(x - max) / sum."""

    OPERATION_NAME = "moe.softmax"
    OPERANDS = ("logits [T, E]",)
    RESULTS = ("scores f32[T, E]",)

    @classmethod
    def infer(
        cls, operands: Operands, attributes: Attributes, where: Where | None
    ) -> Results:
        (logits,) = operands
        check_floats("softmax", logits, where)
        return (Tensor(logits.shape, "float32"),)


class SoftmaxGrad(Op):
    """Gradient of `moe.softmax`: scores * (d - sum(d * scores))."""

    OPERATION_NAME = "moe.softmax_grad"
    OPERANDS = ("scores f32[T, E]", "d f32[T, E]")
    RESULTS = ("d_logits f32[T, E]",)

    @classmethod
    def infer(
        cls, operands: Operands, attributes: Attributes, where: Where | None
    ) -> Results:
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
    def infer(
        cls, operands: Operands, attributes: Attributes, where: Where | None
    ) -> Results:
        (scores,) = operands
        fix = "pass one row of scores per token"
        check_rank("top_k", scores, 2, "scores [tokens, experts]", fix, where)
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
    def infer(
        cls, operands: Operands, attributes: Attributes, where: Where | None
    ) -> Results:
        (scores,) = operands
        fix = "pass one row of scores per token"
        check_rank("expert_choice", scores, 2, "scores [tokens, experts]", fix, where)
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
    def title(cls) -> str:
        return "hash_choice"

    @classmethod
    def infer(
        cls, operands: Operands, attributes: Attributes, where: Where | None
    ) -> Results:
        (ids,) = operands
        fix = "pass the int32 token ids [tokens]"
        check_rank("hash_choice", ids, 1, "token ids [tokens]", fix, where)
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
    def infer(
        cls, operands: Operands, attributes: Attributes, where: Where | None
    ) -> Results:
        scores, choice = operands
        check_choice("take", choice, where)
        fix = "pass scores with one row per token of the choice"
        check_rank("take", scores, 2, "scores [tokens, experts]", fix, where)
        if scores.shape[0] != choice.shape[0]:
            raise ShapeMismatch(
                where,
                op="take",
                expected=f"scores of {choice.shape[0]} tokens",
                got=scores,
                fix=fix,
            )
        return (Tensor(choice.shape, scores.dtype),)


class Put(Op):
    """Transpose of `moe.take`: [T, E] zeros with each value added at its expert."""

    OPERATION_NAME = "moe.put"
    OPERANDS = ("values [T, K]", "choice i32[T, K]")
    RESULTS = ("d_scores [T, E]",)
    ATTRIBUTES = {"experts": int}

    @classmethod
    def infer(
        cls, operands: Operands, attributes: Attributes, where: Where | None
    ) -> Results:
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
    def infer(
        cls, operands: Operands, attributes: Attributes, where: Where | None
    ) -> Results:
        (choice,) = operands
        check_choice("assign", choice, where)
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


class Count(Op):
    """How many choices each expert has in each group; -1 counts nowhere."""

    OPERATION_NAME = "moe.count"
    OPERANDS = ("choice i32[T, K]",)
    RESULTS = ("counts i32[groups, E]",)
    ATTRIBUTES = {"experts": int, "groups": int}

    @classmethod
    def infer(
        cls, operands: Operands, attributes: Attributes, where: Where | None
    ) -> Results:
        (choice,) = operands
        check_choice("count", choice, where)
        check_groups(choice.shape[0], attributes["groups"], where)
        return (Tensor((attributes["groups"], attributes["experts"]), "int32"),)
