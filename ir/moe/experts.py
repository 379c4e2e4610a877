"""Ops of rows with their expert's own weights."""

from ir.errors import DtypeMismatch, ShapeMismatch, Where
from ir.moe.checks import (
    Attributes,
    Operands,
    Results,
    check_choice,
    check_floats,
    check_rank,
)
from ir.narrow import is_narrow
from ir.op import Op
from ir.types import Tensor


class ExpertMatmul(Op):
    """Experts multiply: each row by the matrix of its own expert.

    Operands are multiplied in the weights' dtype and accumulated in float32. With
    `transposed` the row meets the matrix' last axis: rows [R, B] by [E, A, B]^T.
    Weights of one byte (see `kernel.quantise`) are multiplied in the attribute `dtype`,
    which they have then, and not yet by their scales.
    """

    OPERATION_NAME = "moe.expert_matmul"
    OPERANDS = ("rows [R, A]", "weights [E, A, B]", "choice i32[T, K]")
    RESULTS = ("rows f32[R, B]",)
    ATTRIBUTES = {"transposed": bool}

    @classmethod
    def infer(
        cls, operands: Operands, attributes: Attributes, where: Where | None
    ) -> Results:
        rows, weights, _ = operands
        op = "expert_matmul"
        check_floats(op, rows, where)
        transposed = attributes["transposed"]
        order = "[experts, out, in]" if transposed else "[experts, in, out]"
        fix = f"declare the weights as {order}"
        check_rank(op, weights, 3, f"weights {order}", fix, where)
        check_rank(
            op, rows, 2, "rows [rows, width]", "pass what dispatch returned", where
        )
        _, inner, outer = weights.shape
        if transposed:
            inner, outer = outer, inner
        if is_narrow(weights.dtype) and "dtype" not in attributes:
            expected = "weights of two or four bytes an element"
            fix = "declare them so, and compile with weights='int8' or weights='fp8'"
            raise DtypeMismatch(where, op=op, expected=expected, got=weights, fix=fix)
        if rows.shape[1] != inner:
            axis = "last" if transposed else "second"
            raise ShapeMismatch(
                where,
                op=op,
                expected=f"rows of width {inner} for {weights}",
                got=rows,
                fix=f"the weights' {axis} axis must be {rows.shape[1]}",
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
    def infer(
        cls, operands: Operands, attributes: Attributes, where: Where | None
    ) -> Results:
        a, b, _ = operands
        shape = (attributes["experts"], a.shape[1], b.shape[1])
        return (Tensor(shape, attributes["dtype"]),)


class ExpertBias(Op):
    """The bias vector of each row's expert, [E, B] -> [R, B]; zero past the last."""

    OPERATION_NAME = "moe.expert_bias"
    OPERANDS = ("bias [E, B]", "choice i32[T, K]")
    RESULTS = ("rows [R, B]",)
    ATTRIBUTES = {"rows": int}

    @classmethod
    def infer(
        cls, operands: Operands, attributes: Attributes, where: Where | None
    ) -> Results:
        bias, choice = operands
        check_choice("expert_bias", choice, where)
        fix = "declare the bias as [experts, width]"
        check_rank("expert_bias", bias, 2, "a bias [experts, width]", fix, where)
        return (Tensor((attributes["rows"], bias.shape[1]), "float32"),)


class ExpertSum(Op):
    """Gradient of a bias: the sum of each expert's rows, in float32; zero if none."""

    OPERATION_NAME = "moe.expert_sum"
    OPERANDS = ("rows [R, B]", "choice i32[T, K]")
    RESULTS = ("d_bias [E, B]",)
    ATTRIBUTES = {"experts": int, "dtype": str}

    @classmethod
    def infer(
        cls, operands: Operands, attributes: Attributes, where: Where | None
    ) -> Results:
        shape = (attributes["experts"], operands[0].shape[1])
        return (Tensor(shape, attributes["dtype"]),)
