"""Runs a block op by op: finds each op's rule and keeps every value."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import ir.kernel  # Declares its ops in OPS, as does the next.
import ir.moe  # noqa: F401
from ir import mlir
from ir.errors import ExpertOutOfRange, IllegalIR
from ir.interpret import kernel, moe, router, stablehlo
from ir.interpret.arrays import Array, in_float64, numpy_dtype
from ir.interpret.margins import MARGINS
from ir.interpret.rows import TooManyRows
from ir.op import OPS, attributes_of, operand_types, place_of, result_types
from ir.scalar_ops import BY_OP
from ir.types import Tensor

_TERMINATORS = {"func.return", "moe.yield", "kernel.yield"}
_RESHAPES = {
    "stablehlo.broadcast_in_dim",
    "stablehlo.reshape",
    "stablehlo.transpose",
}
_OWN_RULES = {**moe.RULES, **kernel.RULES, **router.RULES}


@dataclass
class Frame:
    """The values of a run so far, its margins, and the rows of the running block."""

    values: dict["mlir.Value[Any]", Array] = field(default_factory=dict)
    margins: dict[int, Array] = field(default_factory=dict)
    block_rows: int = 0


def run_block(
    block: mlir.Block, arguments: Sequence[Array], frame: Frame
) -> list[Array]:
    """Run a block to its terminator; returns what that hands out."""
    frame.values.update(zip(block.arguments, arguments, strict=True))
    for op in block.operations:
        operands = [frame.values[value] for value in op.operation.operands]
        if op.operation.name in _TERMINATORS:
            return operands
        results = _run_op(op, operands, frame)
        for value, kind, result in zip(
            op.operation.results, result_types(op), results, strict=True
        ):
            frame.values[value] = in_float64(result, kind)
    raise IllegalIR(
        op="a block", after="when interpreted", reason="it does not end in a return"
    )


def _run_op(op: mlir.OpView, operands: list[Array], frame: Frame) -> list[Array]:
    try:
        return _by_name(op, operands, frame)
    except TooManyRows as error:
        raise _illegal(op, str(error)) from None
    except ExpertOutOfRange as error:
        if error.where:
            raise
        raise ExpertOutOfRange(place_of(op), **error.facts) from None


def _by_name(op: mlir.OpView, operands: list[Array], frame: Frame) -> list[Array]:
    name: str = op.operation.name
    if name == "moe.map":
        return _map(op, operands, frame)
    if name == "kernel.grouped_matmul":
        return _grouped_matmul(op, operands, frame)
    if name == "kernel.router":
        return _router(op, operands, frame)
    if name == "kernel.bias":
        return [np.broadcast_to(operands[0], (frame.block_rows, *operands[0].shape))]
    if name == "kernel.quantise":
        return kernel.quantise(*operands, **_declared_attributes(op))
    if name == "kernel.spread":
        shape = frame.block_rows, result_types(op)[0].shape[1]
        return [np.broadcast_to(operands[0], shape)]
    if name in _OWN_RULES:
        attributes = _declared_attributes(op)
        if name in MARGINS:
            margin = MARGINS[name](*operands, **attributes)
            frame.margins[len(frame.margins)] = margin
        return [_OWN_RULES[name](*operands, **attributes)]
    if name in BY_OP:
        return [BY_OP[name].numpy(*operands)]
    if name in _RESHAPES and _is_scalar(op):
        return operands
    if name in stablehlo.RULES:
        return [stablehlo.RULES[name](op, *operands)]
    raise _illegal(op, "the interpreter has no rule for it")


def _declared_attributes(op: mlir.OpView) -> dict[str, Any]:
    """What the op's declaration lists, less dtypes: every float is float64 here."""
    declared = OPS[op.operation.name].ATTRIBUTES
    found = attributes_of(op)
    missing = [name for name in declared if name not in found]
    if missing:
        raise _illegal(op, f"it lacks {', '.join(missing)}")
    return {name: found[name] for name in declared if name != "dtype"}


def _is_scalar(op: mlir.OpView) -> bool:
    """Whether an op, as written, takes and makes a scalar.

    In the region of a map a scalar stands for a whole array, whose shape such an op
    leaves alone.
    """
    return all(kind.shape == () for kind in operand_types(op) + result_types(op))


def _map(op: mlir.OpView, operands: list[Array], frame: Frame) -> list[Array]:
    function = op.operation.regions[0].blocks[0]
    results = run_block(function, operands, frame)
    return [np.broadcast_to(result, operands[0].shape) for result in results]


def _grouped_matmul(
    op: mlir.OpView, operands: list[Array], frame: Frame
) -> list[Array]:
    found = attributes_of(op)
    return kernel.grouped_matmul(
        _program(op, frame),
        operands[0],
        operands[1:],
        experts=found["experts"],
        rows=found["rows"],
        operand_kinds=found["operands"],
        result_kinds=found["results"],
        results=_zeros(found),
    )


def _router(op: mlir.OpView, operands: list[Array], frame: Frame) -> list[Array]:
    found = attributes_of(op)
    before = len(frame.margins)
    results = router.router(
        _program(op, frame),
        operands,
        tokens=found["tokens"],
        groups=found["groups"],
        operand_kinds=found["operands"],
        result_kinds=found["results"],
        results=_zeros(found),
    )
    _join_margins(frame, before, found["groups"])
    return results


def _join_margins(frame: Frame, before: int, groups: int) -> None:
    """One margin for each choosing op of a block, of all tokens, as outside of it."""
    parts = [frame.margins.pop(n) for n in range(before, len(frame.margins))]
    each = len(parts) // groups
    for n in range(each):
        frame.margins[before + n] = np.concatenate(parts[n::each])


def _program(op: mlir.OpView, frame: Frame) -> kernel.Program:
    """The op's block program as a function of operands and rows."""
    block = op.operation.regions[0].blocks[0]

    def program(fetched: list[Array], rows: int) -> list[Array]:
        frame.block_rows = rows
        return run_block(block, fetched, frame)

    return program


def _zeros(found: dict[str, Any]) -> list[Array]:
    shapes = zip(found["shapes"], found["dtypes"], strict=True)
    kinds = [Tensor(tuple(shape), dtype) for shape, dtype in shapes]
    return [np.zeros(kind.shape, numpy_dtype(kind)) for kind in kinds]


def _illegal(op: mlir.OpView, reason: str) -> IllegalIR:
    return IllegalIR(
        place_of(op), op=op.operation.name, after="when interpreted", reason=reason
    )
