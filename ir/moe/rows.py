"""Ops that send tokens to rows and bring rows back."""

from ir.errors import ShapeMismatch, Where
from ir.moe.checks import (
    Attributes,
    Operands,
    Results,
    check_choice,
    check_floats,
    check_numbered,
    check_rank,
    check_same_choices,
)
from ir.op import Op
from ir.types import Tensor


class Dispatch(Op):
    """Rows go to experts: one copy of its token for each kept choice.

    `rows` bounds how many choices can be kept: T*K, or less where capacity says so.
    """

    OPERATION_NAME = "moe.dispatch"
    OPERANDS = ("x [T, A]", "choice i32[T, K]")
    RESULTS = ("rows [R, A]",)
    ATTRIBUTES = {"experts": int, "rows": int}

    @classmethod
    def infer(
        cls, operands: Operands, attributes: Attributes, where: Where | None
    ) -> Results:
        x, choice = operands
        check_choice("dispatch", choice, where)
        fix = "pass one row per token of the choice"
        check_rank("dispatch", x, 2, "tokens [tokens, width]", fix, where)
        check_floats("dispatch", x, where)
        check_numbered(choice, where)
        if x.shape[0] != choice.shape[0]:
            raise ShapeMismatch(
                where,
                op="dispatch",
                expected=f"{choice.shape[0]} tokens",
                got=x,
                fix=fix,
            )
        return (Tensor((attributes["rows"], x.shape[1]), x.dtype),)


class DispatchChoices(Op):
    """Numbers given per choice, such as gates, brought to rows: [T, K] -> [R, 1]."""

    OPERATION_NAME = "moe.dispatch_choices"
    OPERANDS = ("values [T, K]", "choice i32[T, K]")
    RESULTS = ("rows [R, 1]",)
    ATTRIBUTES = {"experts": int, "rows": int}

    @classmethod
    def infer(
        cls, operands: Operands, attributes: Attributes, where: Where | None
    ) -> Results:
        values, choice = operands
        check_same_choices("dispatch_choices", values, choice, where)
        return (Tensor((attributes["rows"], 1), values.dtype),)


class Collect(Op):
    """Transpose of `moe.dispatch_choices`: [R, 1] -> [T, K], 0 for a dropped choice."""

    OPERATION_NAME = "moe.collect"
    OPERANDS = ("rows [R, 1]", "choice i32[T, K]")
    RESULTS = ("values [T, K]",)
    ATTRIBUTES = {"experts": int}

    @classmethod
    def infer(
        cls, operands: Operands, attributes: Attributes, where: Where | None
    ) -> Results:
        rows, choice = operands
        return (Tensor(choice.shape, rows.dtype),)


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
    def infer(
        cls, operands: Operands, attributes: Attributes, where: Where | None
    ) -> Results:
        rows, choice, *gates = operands
        check_choice("combine", choice, where)
        check_floats("combine", rows, where)
        check_rank(
            "combine", rows, 2, "rows [rows, width]", "pass rows of a dispatch", where
        )
        for gate in gates:
            check_same_choices("combine", gate, choice, where)
        return (Tensor((choice.shape[0], rows.shape[1]), attributes["dtype"]),)


class RowDot(Op):
    """The inner product of two rows, in float32: sum(a * b) over the width."""

    OPERATION_NAME = "moe.row_dot"
    OPERANDS = ("a [R, A]", "b [R, A]")
    RESULTS = ("dots f32[R, 1]",)

    @classmethod
    def infer(
        cls, operands: Operands, attributes: Attributes, where: Where | None
    ) -> Results:
        return (Tensor((operands[0].shape[0], 1), "float32"),)


class RowSum(Op):
    """The sum over the last axis, in float32, kept as an axis of size 1."""

    OPERATION_NAME = "moe.row_sum"
    OPERANDS = ("a [R, A]",)
    RESULTS = ("sums f32[R, 1]",)

    @classmethod
    def infer(
        cls, operands: Operands, attributes: Attributes, where: Where | None
    ) -> Results:
        return (Tensor((operands[0].shape[0], 1), "float32"),)
