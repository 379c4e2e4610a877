"""The kernels of a module: names, schedules' fields, and what they keep on the chip."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from backends.chips import Chip
from backends.tpu import schedule
from backends.tpu.buffers import Buffer
from backends.tpu.kernel_buffers import (
    combine_buffers,
    rows_buffers,
    sums_buffers,
    wide_buffers,
)
from backends.tpu.operands import rows_operands, sums_operands
from backends.tpu.piece import Piece, take_apart, width
from backends.tpu.router_buffers import router_buffers
from backends.tpu.storage import can_copy, compute_dtype
from ir import mlir
from ir.op import attributes_of, result_types
from ir.types import to_attribute

Kind = Literal["grouped_rows", "grouped_sums", "row_maps", "combine_rows", "router"]

TILES = ("tile_rows", "chunk_rows")
STEP = "step_tokens"
# Blocks of widths, and all fields of a schedule. `row_maps` is plain XLA code.
CUTS: Mapping[Kind, tuple[str, str]] = {
    "grouped_rows": schedule.FIELDS["rows"],
    "grouped_sums": schedule.FIELDS["sums"],
}
FIELDS: Mapping[Kind, tuple[str, ...]] = {
    "grouped_rows": (*TILES, *CUTS["grouped_rows"], schedule.STAY, "fetches"),
    "grouped_sums": (*TILES, *CUTS["grouped_sums"], schedule.WINDOW, "fetches"),
    "row_maps": TILES,
    "combine_rows": (STEP,),
    "router": ("tile_tokens", "piece", "runs"),
}
_KINDS: Mapping[str, Kind] = {
    "rows": "grouped_rows",
    "sums": "grouped_sums",
    "maps": "row_maps",
}


@dataclass(frozen=True)
class KernelOp:
    """An op that a kernel runs; `name` is FUNCTION.KIND.NUMBER, counted from 0."""

    name: str
    kind: Kind
    op: mlir.OpView
    compute: str
    piece: Piece | None = None  # of grouped matmuls

    @property
    def fields(self) -> tuple[str, ...]:
        return FIELDS[self.kind]

    @property
    def schedule(self) -> dict[str, Any]:
        """The schedule that the op carries; empty before it has one."""
        return dict(attributes_of(self.op).get("schedule", {}))

    @property
    def widths(self) -> dict[str, int]:
        """The widths that blocks cut, by the field that cuts them."""
        if self.piece is None or self.kind not in CUTS:
            return {}
        if self.kind == "grouped_rows":
            sizes = width(self.piece.lefts[0]), width(self.piece.sums[0])
        else:
            (kind,) = result_types(self.op)
            sizes = kind.shape[1], kind.shape[2]
        return dict(zip(CUTS[self.kind], sizes, strict=True))

    @property
    def fetched_field(self) -> str | None:
        """The field that cuts tokens, if the kernel reads any: it may fetch them."""
        if self.piece is None or self.kind not in CUTS:
            return None
        first, second = CUTS[self.kind]
        if self.kind == "grouped_rows":
            return first if rows_operands(self.piece, True).tokens else None
        read = sums_operands(self.piece, True)
        return first if read.left_tokens else second if read.right_tokens else None

    def put(self, schedule: Mapping[str, Any]) -> None:
        """Give the op a schedule."""
        self.op.operation.attributes["schedule"] = to_attribute(schedule)

    def buffers(self, schedule: Mapping[str, Any], chip: Chip) -> list[Buffer]:
        """What the kernel keeps on the chip under a schedule."""
        if self.kind == "combine_rows":
            return list(combine_buffers(self.op, schedule, self.compute, chip))
        if self.kind == "router":
            return list(router_buffers(self.op, schedule, chip))
        if self.piece is None or self.kind == "row_maps":
            return []
        if self.kind == "grouped_sums":
            return list(sums_buffers(self.op, self.piece, schedule, self.compute))
        wide = wide_buffers(self.piece, schedule, self.compute, chip)
        return [*rows_buffers(self.op, self.piece, schedule, self.compute), *wide]


def grouped_kernels(module: mlir.Module) -> list[KernelOp]:
    """The grouped matmuls of a module, in order; raises `UnsupportedByTarget`."""
    return _numbered(_grouped(module))


def combine_kernels(module: mlir.Module) -> list[KernelOp]:
    """The combines that a kernel runs; the grouped matmuls must have schedules."""
    compute = compute_dtype(module.operation)
    return _numbered(
        KernelOp(function, "combine_rows", op, compute)
        for function, op in _ops(module, "kernel.combine")
        if can_copy(op.operation.operands[1], compute)
    )


def router_kernels(module: mlir.Module) -> list[KernelOp]:
    """The routers that are one kernel."""
    compute = compute_dtype(module.operation)
    return _numbered(
        KernelOp(function, "router", op, compute)
        for function, op in _ops(module, "kernel.router")
    )


def _grouped(module: mlir.Module) -> Iterator[KernelOp]:
    compute = compute_dtype(module.operation)
    for function, op in _ops(module, "kernel.grouped_matmul"):
        piece = take_apart(op)
        yield KernelOp(function, _KINDS[piece.kind], op, compute, piece)


def _ops(module: mlir.Module, name: str) -> Iterator[tuple[str, mlir.OpView]]:
    for function, held in mlir.functions(module).items():
        for op in mlir.walk(mlir.entry(held)):
            if op.operation.name == name:
                yield function, op


def _numbered(kernels: Iterator[KernelOp]) -> list[KernelOp]:
    counts: dict[str, int] = {}
    found = []
    for kernel in kernels:
        stem = f"{kernel.name}.{kernel.kind}"
        number = counts.get(stem, 0)
        counts[stem] = number + 1
        found.append(replace(kernel, name=f"{stem}.{number}"))
    return found
