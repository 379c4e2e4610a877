"""The buffers of a router's kernel under its schedule: what its block maps ask for.

A mirror of `kernels/router_blocks.py`, as `kernel_buffers.py` is of the other kernels.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from backends.chips import Chip
from backends.tpu.buffers import LANES, Buffer
from backends.tpu.kernel_buffers import COMPILERS
from backends.tpu.router_rules import run_cores
from backends.tpu.router_text import (
    operand_parts,
    operand_turned,
    result_parts,
    sum_turned,
)
from ir import mlir
from ir.op import attributes_of, operand_types, result_types
from ir.router_sizes import sizes_of, width_of
from ir.types import Tensor


@dataclass(frozen=True)
class _Cut:
    """How tokens and rows are cut."""

    runs: int
    size: int  # tokens of a run
    tile: int
    piece: int
    whole: bool  # whether a piece is all of a row
    cores: int

    def piece_of(self, width: int) -> int:
        return width if self.whole else self.piece

    def window(self, part: str, tensor: Tensor, result: bool = False) -> Buffer:
        """A block of an operand or a result that has something for each token."""
        width = width_of(tensor)
        if part == "rows":
            return Buffer(
                "rows of results" if result else "rows of tokens",
                "vmem",
                (1, self.tile, self.piece_of(width)),
                tensor.dtype,
                (self.runs, self.size, width),
                ("", "tile_tokens", "piece"),
            )
        return Buffer(
            "numbers of results" if result else "numbers of tokens",
            "vmem",
            (1, width, self.tile),
            _stored(tensor),
            (self.runs, width, self.size),
            ("", "", "tile_tokens"),
        )

    def shares(self, tensor: Tensor, width: int, count: int) -> Buffer:
        """Sums over tokens, which leave one lane at a time."""
        lanes = LANES if self.tile % LANES == 0 else self.tile
        array = (count, width, lanes)
        return Buffer("sums", "vmem", (1, width, lanes), _stored(tensor), array)


def router_buffers(
    op: mlir.OpView, schedule: Mapping[str, Any], chip: Chip
) -> Iterator[Buffer]:
    """Those of `route`."""
    sizes, runs = sizes_of(op), schedule["runs"]
    shared = run_cores(runs, chip)
    tile, piece = schedule["tile_tokens"], schedule["piece"]
    whole = piece >= sizes.width
    cut = _Cut(runs, sizes.tokens // runs, tile, piece, whole, shared)
    yield from _read(op, cut, sizes.groups)
    yield from _made(op, cut)
    yield COMPILERS


def _read(op: mlir.OpView, cut: _Cut, groups: int) -> Iterator[Buffer]:
    arguments = op.operation.regions[0].blocks[0].arguments
    narrow = attributes_of(op)["narrow"]
    parts = zip(operand_parts(op), operand_types(op), arguments, strict=True)
    for part, tensor, argument in parts:
        if part in ("rows", "columns"):
            yield cut.window(part, tensor)
        elif part == "groups":
            width = width_of(tensor)
            shape, array = (1, width, 1), (groups, width, 1)
            yield Buffer("numbers of a group", "vmem", shape, tensor.dtype, array)
        elif part == "vectors":
            column = prod(tensor.shape), 1
            yield Buffer("a vector", "vmem", column, tensor.dtype, column)
        else:
            turned = operand_turned(argument, narrow)
            rows, columns = tensor.shape[::-1] if turned else tensor.shape
            block, matrix = (rows, cut.piece_of(columns)), (rows, columns)
            fields = ("", "piece")
            buffer = Buffer("weights", "vmem", block, tensor.dtype, matrix, fields)
            yield replace(buffer, once=cut.whole)


def _made(op: mlir.OpView, cut: _Cut) -> Iterator[Buffer]:
    for part, tensor in zip(result_parts(op), result_types(op), strict=True):
        if part in ("rows", "columns"):
            yield cut.window(part, tensor, result=True)
        elif part == "groups":
            yield cut.shares(tensor, width_of(tensor), cut.runs)
        elif part == "sums":
            yield cut.shares(tensor, tensor.shape[-1], cut.cores)
        else:
            turned = sum_turned(op, tensor)
            narrow, wide = tensor.shape[::-1] if turned else tensor.shape
            shape = 1, narrow, cut.piece_of(wide)
            array, fields = (cut.cores, narrow, wide), ("", "", "piece")
            yield Buffer("sums of weights", "vmem", shape, tensor.dtype, array, fields)


def _stored(tensor: Tensor) -> str:
    """Truths are numbers in memory."""
    return "int32" if tensor.dtype == "bool" else tensor.dtype
