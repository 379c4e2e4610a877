"""The buffers of each kernel under its schedule: what its own block maps ask for.

A mirror of the specs in `kernels/`, without tracing them; the tests hold both equal.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from backends.chips import Chip
from backends.tpu.buffers import LANES, Buffer, whole
from backends.tpu.combined import combined_dtype
from backends.tpu.narrow import narrow_way
from backends.tpu.operands import rows_operands, sums_operands
from backends.tpu.piece import Piece, width
from backends.tpu.schedule import WINDOW, blocks_of, cores, leaves
from backends.tpu.storage import block_of, can_pack, stored_dtype
from ir import mlir
from ir.mlir import Value
from ir.op import attributes_of, operand_types, result_types
from ir.types import Tensor, from_mlir

Schedule = Mapping[str, Any]

# Mosaic keeps 72 vector registers' worth of lines beside what a kernel asks for.
COMPILERS = Buffer("the compiler's own", "vmem", (72, LANES), "int32")


# What lies along the lanes, a chunk of rows a line.
NUMBERS, SUMS = IN_LINES = "numbers of rows", "sums of rows"


@dataclass(frozen=True)
class _Rows:
    """The padded row space of a layer, in tiles; `window` of a tile's rows at once."""

    tokens: int
    choices: int
    experts: int
    rows: int
    tile: int
    chunk: int
    window: int
    field: str  # of the schedule, that says `window`

    @property
    def tiles(self) -> int:
        return self.rows // self.tile + min(self.experts, self.rows)

    @property
    def places(self) -> int:
        return self.tiles * self.tile

    def space(
        self, what: str, columns: int, cut: int, field: str, dtype: str
    ) -> Buffer:
        """A window of a row space: some rows, a block of columns."""
        shape, array = (self.window, cut), (self.places, columns)
        return Buffer(what, "vmem", shape, dtype, array, (self.field, field))

    def numbers(self, what: str, dtype: str) -> Buffer:
        """A window of one number a row, a chunk a line."""
        dtype = _line_dtype(dtype)
        lines = (self.window // self.chunk, self.chunk)
        array = (self.places // self.window, *lines)
        return Buffer(what, "vmem", (1, *lines), dtype, array)

    def row_sums(self, dtype: str, cuts: int) -> Buffer:
        """A window of sums over columns, with a slice for each block of columns."""
        dtype = _line_dtype(dtype)
        lines = (self.tile // self.chunk, self.chunk)
        shape, array = (1, 1, *lines), (cuts, self.tiles, *lines)
        return Buffer(SUMS, "vmem", shape, dtype, array)

    def fetched(self, value: Value, cut: int, field: str) -> Buffer:
        """Rows of tokens that the kernel copies, those of two windows."""
        kind = from_mlir(value.type)
        pair = 2 if kind.dtype == "bfloat16" else 1
        return Buffer(
            "rows of tokens",
            "vmem",
            (2, self.window, cut // pair),
            "uint32" if pair == 2 else kind.dtype,
            fields=("", self.field, field),
            source=(self.tokens, kind.shape[-1] // pair),
        )

    def indices(self) -> tuple[Buffer, Buffer]:
        """The tokens of this window and of the next one."""
        shape = (1, 1, self.window)
        array = (self.places // self.window, *shape[1:])
        window = Buffer("indices of tokens", "smem", shape, "int32", array)
        return replace(window, still=True), window


def rows_buffers(
    op: mlir.OpView, piece: Piece, schedule: Schedule, compute: str
) -> Iterator[Buffer]:
    """Those of `grouped_rows`."""
    space = _space(op, schedule)
    inner, columns = from_mlir(piece.lefts[0].type).shape[1], width(piece.sums[0])
    block_inner, block_columns = blocks_of(schedule)
    read = rows_operands(piece, schedule["fetches"])
    yield from _scalars(space.tiles, space.tiles, 2)
    if read.tokens:
        yield from space.indices()
    for value in read.inner:
        dtype = _held(piece, value, compute)
        yield space.space("rows", inner, block_inner, "block_inner", dtype)
    for value in read.columns:
        dtype = _held(piece, value, compute)
        yield space.space("rows", columns, block_columns, "block_columns", dtype)
    for value in read.numbers:
        yield space.numbers(NUMBERS, from_mlir(value.type).dtype)
    for right, turned in zip(piece.rights, piece.transposed, strict=True):
        yield _weights(piece, right, turned, (block_inner, block_columns))
    for value in read.biases:
        kind = _outer(piece, value)
        shape, array = (1, 1, block_columns), (space.experts, 1, columns)
        fields = ("", "", "block_columns")
        yield Buffer("biases", "vmem", shape, kind.dtype, array, fields)
    leaving = leaves((inner, columns), (block_inner, block_columns))
    for value, kind in zip(op.operation.results, result_types(op), strict=True):
        dtype = stored_dtype(kind, compute)
        if kind.shape[-1] == 1:
            yield space.row_sums(dtype, -(-columns // block_columns))
            continue
        pair = 2 if can_pack(value, compute, block_columns) else 1
        dtype = "uint32" if pair == 2 else dtype
        held = columns // pair, block_columns // pair
        result = space.space("results", *held, "block_columns", dtype)
        yield replace(result, array=()) if leaving else result
    if block_inner != inner:
        size, named = (space.tile, block_columns), ("tile_rows", "block_columns")
        for _ in piece.products[: 1 if piece.joined else None]:
            yield Buffer("sums", "vmem", size, "float32", fields=named)
    for value in read.tokens:
        yield space.fetched(value, block_inner, "block_inner")
    yield COMPILERS


def wide_buffers(
    piece: Piece, schedule: Schedule, compute: str, chip: Chip
) -> Iterator[Buffer]:
    """Weights of one byte as products take them, where blocks are converted ahead."""
    for right, turned in zip(piece.rights, piece.transposed, strict=True):
        stored = _weights(piece, right, turned, blocks_of(schedule))
        if narrow_way(stored.dtype, compute, chip) == "by block":
            yield Buffer(
                "converted weights",
                "vmem",
                stored.shape,
                compute,
                fields=stored.fields,
            )


def sums_buffers(
    op: mlir.OpView, piece: Piece, schedule: Schedule, compute: str
) -> Iterator[Buffer]:
    """Those of `grouped_sums`."""
    space = _space(op, schedule)
    every = (space.tiles + space.experts) * (space.tile // space.window)
    blocks = blocks_of(schedule)
    (kind,) = result_types(op)
    read = sums_operands(piece, schedule["fetches"])
    yield from _scalars(every + 1, every, every, 1)
    if read.left_tokens or read.right_tokens:
        yield from space.indices()
    fields = ("block_left", "block_right")
    for side, values in enumerate((read.left, read.right)):
        columns = kind.shape[side + 1]
        for value in values:
            dtype = _held(piece, value, compute)
            yield space.space("rows", columns, blocks[side], fields[side], dtype)
    for value in read.numbers:
        yield space.numbers(NUMBERS, from_mlir(value.type).dtype)
    if any(size % cut for size, cut in zip(kind.shape[1:], blocks, strict=True)):
        named = ("", *fields)
        yield Buffer("results", "vmem", (1, *blocks), kind.dtype, kind.shape, named)
    else:
        yield Buffer("results", "vmem", blocks, kind.dtype, fields=fields)
    yield Buffer("sums", "vmem", blocks, "float32", fields=fields)
    for side, values in enumerate((read.left_tokens, read.right_tokens)):
        for value in values:
            yield space.fetched(value, blocks[side], fields[side])
    yield COMPILERS


def combine_buffers(
    op: mlir.OpView, schedule: Schedule, compute: str, chip: Chip
) -> Iterator[Buffer]:
    """Those of `combine_rows`."""
    plan, rows, *gates = operand_types(op)
    tokens, choices = plan.shape
    step, columns = schedule["step_tokens"], rows.shape[1]
    steps = whole(-(-tokens // step), cores(chip))
    line = (1, step * choices)
    window = Buffer("indices of rows", "smem", (1, *line), "int32", (steps, *line))
    yield replace(window, still=True)
    yield window
    line = (choices, step)
    for what in ("kept choices", *("gates" for _ in gates)):
        yield Buffer(what, "vmem", (1, *line), "float32", (steps, *line))
    shape, array = (step, columns), (steps * step, columns)
    dtype = combined_dtype(op)
    yield Buffer("results", "vmem", shape, dtype, array, ("step_tokens", ""))
    value = op.operation.operands[1]
    packed = can_pack(value, compute, block_of(value))
    maker = mlir.producer(value)
    places = places_of(maker.opview, _schedule(maker)) if maker else rows.shape[0]
    held = columns // 2 if packed else columns
    yield Buffer(
        "rows of experts",
        "vmem",
        (2, step * choices, held),
        "uint32" if packed else stored_dtype(rows, compute),
        fields=("", "step_tokens", ""),
        source=(places, held),
    )
    yield COMPILERS


def places_of(op: mlir.OpView, schedule: Schedule) -> int:
    """Rows of the padded row space of a grouped matmul."""
    return _space(op, schedule).places


def _schedule(op: mlir.Operation) -> Schedule:
    schedule: Schedule = attributes_of(op.opview)["schedule"]
    return schedule


def _space(op: mlir.OpView, schedule: Schedule) -> _Rows:
    told = attributes_of(op)
    tokens, choices = operand_types(op)[0].shape
    field = WINDOW if WINDOW in schedule else "tile_rows"
    return _Rows(
        tokens,
        choices,
        told["experts"],
        told["rows"],
        schedule["tile_rows"],
        schedule["chunk_rows"],
        schedule[field],
        field,
    )


def _scalars(*counts: int) -> Iterator[Buffer]:
    """Arrays that are in scalar memory before the kernel begins."""
    for count in counts:
        yield Buffer("the map of tiles", "smem", (count,), "int32")


def _line_dtype(dtype: str) -> str:
    """Lines of bfloat16 would share a sublane."""
    return "float32" if dtype == "bfloat16" else dtype


def _held(piece: Piece, value: Value, compute: str) -> str:
    """The dtype of a row space in memory; fetched tokens keep their own."""
    kind = from_mlir(value.type)
    stored = piece.arguments[value][0] == "row"
    return stored_dtype(kind, compute) if stored else kind.dtype


def _outer(piece: Piece, value: Value) -> Tensor:
    """The type of an argument outside the block program."""
    return from_mlir(piece.arguments[value][1].type)


def _weights(
    piece: Piece, value: Value, turned: bool, blocks: tuple[int, int]
) -> Buffer:
    kind = _outer(piece, value)
    fields = ("block_inner", "block_columns")
    if turned:
        fields, blocks = fields[::-1], blocks[::-1]
    return Buffer(
        "weights", "vmem", (1, *blocks), kind.dtype, kind.shape, ("", *fields)
    )
