"""Elementwise functions."""

from ir.errors import ShapeMismatch, Where
from ir.moe.checks import Attributes, Operands, Results
from ir.op import Op
from ir.types import Tensor


class Map(Op):
    """An elementwise function of tensors of one shape, written over scalars.

    The first region is the function, in stablehlo and chlo over rank-0 tensors; the
    second takes the same scalars and the results' cotangents, and yields the operands'
    cotangents. Both were traced from the user's own function, so custom derivatives
    (such as that of jax.nn.relu at 0) are kept. Integer functions have no second
    region.
    """

    OPERATION_NAME = "moe.map"
    OPERANDS = ("operands ...",)
    RESULTS = ("results ...",)
    ATTRIBUTES = {"name": str, "results": list}
    REGIONS = ("function", "vjp")

    @classmethod
    def infer(
        cls, operands: Operands, attributes: Attributes, where: Where | None
    ) -> Results:
        shapes = {operand.shape for operand in operands}
        if len(shapes) != 1:
            raise ShapeMismatch(
                where,
                op="map",
                expected="operands of one shape",
                got=" and ".join(map(str, operands)),
                fix="broadcast them first",
            )
        return tuple(
            Tensor(operands[0].shape, dtype) for dtype in attributes["results"]
        )


class Yield(Op):
    """Ends a region of `moe.map` with the function's results."""

    OPERATION_NAME = "moe.yield"
    OPERANDS = ("results ...",)

    @classmethod
    def infer(
        cls, operands: Operands, attributes: Attributes, where: Where | None
    ) -> Results:
        return ()
