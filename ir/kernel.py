"""The dialect `kernel`: what runs.

`kernel.row_plan` turns a choice into a plan: which rows each expert has and where they
lie. `kernel.grouped_matmul` runs a *block program* over blocks of rows of one expert,
fetching its operands by the plan. `kernel.combine` and `kernel.collect` bring rows back
to tokens. `kernel.router` runs a block program over tiles of tokens. Each op carries a
`schedule`, chosen by the pass of that name.

Inside a block program, rows have the type tensor<?xA>: as many rows as a block holds.
Weights lose their leading axis of experts: tensor<AxB>.
"""

from ir import mlir
from ir.errors import IllegalIR, Where
from ir.kernel_router import Columns as Columns
from ir.kernel_router import Count as Count
from ir.kernel_router import Router as Router
from ir.kernel_router import RowReduce as RowReduce
from ir.kernel_router import Spread as Spread
from ir.moe.checks import Attributes, Operands, Results
from ir.narrow import is_narrow
from ir.op import Op, attributes_of, operand_types
from ir.types import Tensor

OPERAND_KINDS = ("token", "choice", "row", "weight")
RESULT_KINDS = ("row", "weight")


class RowPlan(Op):
    """Rows of each expert, in the order (expert, flat choice).

    The plan stands for sizes i32[E], the flat choice of each row i32[R] and the row of
    each flat choice i32[T, K]; a backend picks the layout of the row space. In the IR
    it has the type of the choice that it was made from.
    """

    OPERATION_NAME = "kernel.row_plan"
    OPERANDS = ("choice i32[T, K]",)
    RESULTS = ("plan i32[T, K]",)
    ATTRIBUTES = {"experts": int, "rows": int}

    @classmethod
    def infer(
        cls, operands: Operands, attributes: Attributes, where: Where | None
    ) -> Results:
        return (operands[0],)


class GroupedMatmul(Op):
    """A block program over the rows of every expert, with its operands fetched.

    Operands after the plan have the kinds listed in `operands`: "token" [T, A] is
    fetched by token, "choice" [T, K] by flat choice (as [rows, 1]), "row" [R, A] is a
    result of an earlier grouped matmul of the same plan, "weight" [E, ...] is the
    expert's own. Results are of kind "row" [R, A], or "weight" [E, ...], summed over
    the expert's rows in float32 and exactly zero for an expert without rows.
    """

    OPERATION_NAME = "kernel.grouped_matmul"
    OPERANDS = ("plan i32[T, K]", "operands ...")
    RESULTS = ("results ...",)
    ATTRIBUTES = {
        "experts": int,
        "rows": int,
        "operands": list,
        "results": list,
        "shapes": list,
        "dtypes": list,
    }
    REGIONS = ("block program",)

    @classmethod
    def infer(
        cls, operands: Operands, attributes: Attributes, where: Where | None
    ) -> Results:
        kinds = attributes["operands"]
        if len(kinds) != len(operands) - 1 or set(kinds) - set(OPERAND_KINDS):
            raise IllegalIR(
                where,
                op=cls.OPERATION_NAME,
                after="",
                reason=f"operand kinds {kinds} do not fit {len(operands) - 1} operands",
            )
        shapes, dtypes = attributes["shapes"], attributes["dtypes"]
        return tuple(Tensor(tuple(s), d) for s, d in zip(shapes, dtypes, strict=True))


class Combine(Op):
    """For each token the sum over k of gate * row, gathered in order, in float32."""

    OPERATION_NAME = "kernel.combine"
    OPERANDS = ("plan i32[T, K]", "rows [R, A]", "gates [T, K] (optional)")
    RESULTS = ("y [T, A]",)
    ATTRIBUTES = {"dtype": str}

    @classmethod
    def infer(
        cls, operands: Operands, attributes: Attributes, where: Where | None
    ) -> Results:
        plan, rows, *_ = operands
        return (Tensor((plan.shape[0], rows.shape[1]), attributes["dtype"]),)


class Collect(Op):
    """Rows of width 1 brought back to their choices: [R, 1] -> [T, K], 0 if dropped."""

    OPERATION_NAME = "kernel.collect"
    OPERANDS = ("plan i32[T, K]", "rows [R, 1]")
    RESULTS = ("values [T, K]",)

    @classmethod
    def infer(
        cls, operands: Operands, attributes: Attributes, where: Where | None
    ) -> Results:
        plan, rows = operands
        return (Tensor(plan.shape, rows.dtype),)


class Quantise(Op):
    """Matrices stored in one byte an element, with a scale for each output channel.

    A channel is a slice along `axis`, which products sum over; its scale is the largest
    |w| of it, divided by the largest number of the dtype `stored`: 127 of int8, 448 of
    float8_e4m3fn. What is stored is w / scale, rounded to the nearest number of that
    dtype, ties to even; zeros where the scale is zero, infinite or NaN. A weight is
    worth what is stored times its channel's scale.
    """

    OPERATION_NAME = "kernel.quantise"
    OPERANDS = ("w [E, A, B] or [A, B]",)
    RESULTS = ("stored [E, A, B] or [A, B]", "scales f32, as w without `axis`")
    ATTRIBUTES = {"axis": int, "stored": str}

    @classmethod
    def infer(
        cls, operands: Operands, attributes: Attributes, where: Where | None
    ) -> Results:
        (w,) = operands
        axis, stored = attributes["axis"], attributes["stored"]
        if not is_narrow(stored) or not 0 <= axis < len(w.shape):
            reason = f"it cannot store {w} as {stored} with scales along axis {axis}"
            raise IllegalIR(where, op=cls.OPERATION_NAME, after="", reason=reason)
        channels = (*w.shape[:axis], *w.shape[axis + 1 :])
        return (Tensor(w.shape, stored), Tensor(channels, "float32"))


class Dot(Op):
    """In a block program: rows [rows, A] by the expert's matrix [A, B], in float32.

    A matrix of one byte an element is multiplied in the attribute `dtype`, which the op
    has then, and not yet by its scales.
    """

    OPERATION_NAME = "kernel.dot"
    OPERANDS = ("rows [rows, A]", "weights [A, B]")
    RESULTS = ("rows f32[rows, B]",)
    ATTRIBUTES = {"transposed": bool}

    @classmethod
    def infer(
        cls, operands: Operands, attributes: Attributes, where: Where | None
    ) -> Results:
        rows, weights = operands
        if is_narrow(weights.dtype) and "dtype" not in attributes:
            reason = f"its matrix is {weights}, and no dtype says how to multiply it"
            raise IllegalIR(where, op=cls.OPERATION_NAME, after="", reason=reason)
        width = weights.shape[0 if attributes["transposed"] else 1]
        return (Tensor((rows.shape[0], width), "float32"),)


class Outer(Op):
    """In a block program: a^T b, the block's share of a weight gradient, in float32."""

    OPERATION_NAME = "kernel.outer"
    OPERANDS = ("a [rows, A]", "b [rows, B]")
    RESULTS = ("d_weights f32[A, B]",)

    @classmethod
    def infer(
        cls, operands: Operands, attributes: Attributes, where: Where | None
    ) -> Results:
        a, b = operands
        return (Tensor((a.shape[1], b.shape[1]), "float32"),)


class Bias(Op):
    """In a block program: the expert's vector [B] on every row, as [rows, B]."""

    OPERATION_NAME = "kernel.bias"
    OPERANDS = ("bias [B]",)
    RESULTS = ("rows [rows, B]",)

    @classmethod
    def infer(
        cls, operands: Operands, attributes: Attributes, where: Where | None
    ) -> Results:
        (bias,) = operands
        return (Tensor((-1, *bias.shape), "float32"),)


class Sum(Op):
    """In a block program: the sum of the block's rows [rows, B] -> [B].

    In float32; integers stay what they are.
    """

    OPERATION_NAME = "kernel.sum"
    OPERANDS = ("rows [rows, B]",)
    RESULTS = ("sum [B]",)

    @classmethod
    def infer(
        cls, operands: Operands, attributes: Attributes, where: Where | None
    ) -> Results:
        (rows,) = operands
        dtype = "float32" if rows.is_float else rows.dtype
        return (Tensor(rows.shape[1:], dtype),)


class RowDot(Op):
    """In a block program: the inner product of two rows, [rows, A] x 2 -> [rows, 1]."""

    OPERATION_NAME = "kernel.row_dot"
    OPERANDS = ("a [rows, A]", "b [rows, A]")
    RESULTS = ("dots f32[rows, 1]",)

    @classmethod
    def infer(
        cls, operands: Operands, attributes: Attributes, where: Where | None
    ) -> Results:
        return (Tensor((operands[0].shape[0], 1), "float32"),)


class RowSum(Op):
    """In a block program: the sum of each row, [rows, A] -> [rows, 1], in float32."""

    OPERATION_NAME = "kernel.row_sum"
    OPERANDS = ("a [rows, A]",)
    RESULTS = ("sums f32[rows, 1]",)

    @classmethod
    def infer(
        cls, operands: Operands, attributes: Attributes, where: Where | None
    ) -> Results:
        return (Tensor((operands[0].shape[0], 1), "float32"),)


class Broadcast(Op):
    """In a block program: a number per row on the whole row, [rows, 1] -> [rows, A]."""

    OPERATION_NAME = "kernel.broadcast"
    OPERANDS = ("values [rows, 1]",)
    RESULTS = ("rows [rows, A]",)
    ATTRIBUTES = {"width": int}

    @classmethod
    def infer(
        cls, operands: Operands, attributes: Attributes, where: Where | None
    ) -> Results:
        (values,) = operands
        return (Tensor((values.shape[0], attributes["width"]), values.dtype),)


class Yield(Op):
    """Ends a block program with its results."""

    OPERATION_NAME = "kernel.yield"
    OPERANDS = ("results ...",)

    @classmethod
    def infer(
        cls, operands: Operands, attributes: Attributes, where: Where | None
    ) -> Results:
        return ()


def product_dtype(dot: mlir.OpView) -> str:
    """The dtype that a `kernel.dot` multiplies in: what its operands are rounded to."""
    told: str | None = attributes_of(dot).get("dtype")
    return told or operand_types(dot)[1].dtype
