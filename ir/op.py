"""What our ops share: a declaration of one screenful, shape rules, and a builder.

A class lists its operands, results and attributes, and gives one rule, `infer`, from
operand types and attributes to result types. The DSL applies it when the user's line
runs, the verifier when a module was parsed or a pass has rewritten it: one rule,
quoted with the same numbers in both.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from ir import mlir
from ir.errors import IllegalIR, MoegenError, Where
from ir.types import Tensor, from_attribute, from_mlir, to_attribute, to_mlir

OPS: dict[str, type["Op"]] = {}


class Op(mlir.OpView):
    """Base of the ops of `moe` and `kernel`."""

    OPERATION_NAME: ClassVar[str]
    OPERANDS: ClassVar[tuple[str, ...]] = ()
    RESULTS: ClassVar[tuple[str, ...]] = ()
    ATTRIBUTES: ClassVar[Mapping[str, type]] = {}
    REGIONS: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        cls._ODS_REGIONS = (0, True)
        OPS[cls.OPERATION_NAME] = mlir.operation(cls)

    @classmethod
    def infer(
        cls,
        operands: Sequence[Tensor],
        attributes: Mapping[str, Any],
        where: Where | None,
    ) -> tuple[Tensor, ...]:
        """Result types; raises a `LayerError` naming `where` and the numbers."""
        raise IllegalIR(op=cls.OPERATION_NAME, after="", reason="it has no shape rule")

    @classmethod
    def title(cls) -> str:
        """The op's name as the user calls it."""
        return cls.OPERATION_NAME.split(".")[1]


def attributes_of(op: mlir.OpView) -> dict[str, Any]:
    """The op's attributes as Python values."""
    held = op.operation.attributes
    return {name: from_attribute(held[name]) for name in held}


def operand_types(op: mlir.OpView) -> list[Tensor]:
    return [from_mlir(value.type) for value in op.operation.operands]


def result_types(op: mlir.OpView) -> list[Tensor]:
    return [from_mlir(value.type) for value in op.operation.results]


def verify_op(op: mlir.OpView, after: str = "") -> None:
    """Check one op of ours against its declaration; raises `IllegalIR`."""
    declared = OPS.get(op.operation.name)
    if declared is None:
        raise IllegalIR(op=op.operation.name, after=after, reason="no such op exists")
    attributes = attributes_of(op)
    missing = [a for a in declared.ATTRIBUTES if a not in attributes]
    if missing:
        raise IllegalIR(
            op=op.operation.name, after=after, reason=f"it lacks {', '.join(missing)}"
        )
    try:
        expected = declared.infer(operand_types(op), attributes, None)
    except MoegenError as error:
        raise IllegalIR(
            place_of(op), op=op.operation.name, after=after, reason=str(error)
        ) from None
    found = result_types(op)
    if [str(t.with_dtype(t.dtype)) for t in expected] != [str(t) for t in found]:
        raise IllegalIR(
            place_of(op),
            op=op.operation.name,
            after=after,
            reason=f"its results are {_list(found)}, and must be {_list(expected)}",
        )


def build(
    name: str,
    operands: Sequence[mlir.Value],
    location: mlir.Location,
    **attributes: Any,
) -> list[mlir.Value]:
    """Create one of our ops at the insertion point, with inferred result types."""
    kinds = [from_mlir(value.type) for value in operands]
    inferred = OPS[name].infer(kinds, attributes, None)
    made = mlir.create(
        name,
        operands,
        [to_mlir(kind) for kind in inferred],
        {key: to_attribute(value) for key, value in attributes.items()},
        location,
    )
    return list(made.results)


def place_of(op: mlir.OpView) -> Where | None:
    """The user's line that an op came from."""
    return mlir.file_and_line(op.operation.location)


def _list(kinds: Sequence[Tensor]) -> str:
    return ", ".join(map(str, kinds)) or "nothing"
