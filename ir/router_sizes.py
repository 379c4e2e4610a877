"""What a router's block program moves and holds on the chip, tile by tile."""

from collections.abc import Iterable
from dataclasses import dataclass

from ir import mlir
from ir.op import attributes_of, operand_types, result_types
from ir.types import Tensor

LANES = 128  # of a vector register; a piece of rows is whole ones
SUBLANES = 8
AT_ONCE = 1024  # columns of weights that are multiplied at once, at most
_BYTES = {"float64": 8, "int64": 8, "bfloat16": 2, "float16": 2}
_PART_BYTES = 12  # what an element of weights becomes while it is multiplied
_LIVE = 8  # numbers of a token that are live at once, for each that it has


@dataclass(frozen=True)
class RouterSizes:
    """Sizes of a `kernel.router`.

    `rows` are (width, bytes of an element) of what is wide, read or made, and `columns`
    the widths of what is narrow; `weights` are (narrow, wide, bytes) of matrices that
    are read, and `sums` of those that are made. `cuts` says that wide rows can be cut.
    """

    tokens: int
    groups: int
    rows: tuple[tuple[int, int], ...]
    columns: tuple[int, ...]
    weights: tuple[tuple[int, int, int], ...]
    sums: tuple[tuple[int, int, int], ...]
    cuts: bool

    @property
    def width(self) -> int:
        """The widest row; a matrix' width where all that tokens have is narrow."""
        matrices = (wide for _, wide, _ in (*self.weights, *self.sums))
        rows = (width for width, _ in self.rows)
        return max(rows, default=max(matrices, default=1))

    @property
    def least_piece(self) -> int:
        return LANES if self.cuts else self.width

    def vmem_bytes(self, tile: int, piece: int) -> int:
        """VMEM of a step: twice what moves, once or twice what stays, and values."""
        lanes = _up(tile, LANES)
        narrow = sum(_up(width, SUBLANES) for width in self.columns)
        rows = sum(_up(min(width, piece), LANES) * size for width, size in self.rows)
        moved = 2 * (rows * _up(tile, 2 * SUBLANES) + 4 * narrow * lanes)
        whole = piece >= self.width
        held = (1 if whole else 2) * self._matrices(self.weights, piece)
        made = 2 * self._matrices(self.sums, piece)
        matrices = (*self.weights, *self.sums)
        most = max((_up(n, 2 * SUBLANES) for n, _, _ in matrices), default=1)
        columns = piece if self.cuts else min(piece, AT_ONCE)
        parts = most * _up(columns, LANES) * _PART_BYTES
        values = _LIVE * most * lanes * 4 + 2 * _up(tile, SUBLANES) * columns * 4
        return moved + held + made + parts + values

    def _matrices(self, held: Iterable[tuple[int, int, int]], piece: int) -> int:
        return sum(
            _up(narrow, SUBLANES) * _up(min(wide, piece), LANES) * size
            for narrow, wide, size in held
        )

    def least_bytes(self) -> int:
        """VMEM of the smallest legal step."""
        return self.vmem_bytes(min(self.tokens, LANES), self.least_piece)


def sizes_of(op: mlir.OpView) -> RouterSizes:
    """The sizes of a `kernel.router`."""
    told = attributes_of(op)
    narrow: list[int] = told["narrow"]
    read = list(zip(told["operands"], operand_types(op), strict=True))
    made = list(zip(told["results"], result_types(op), strict=True))
    tokens = [t for kind, t in (*read, *made) if kind == "token"]
    wide = [t for t in tokens if width_of(t) not in narrow]
    block = op.operation.regions[0].blocks[0]
    dots = [inner for inner in block if inner.operation.name == "kernel.dot"]
    summed = [width_of(operand_types(dot)[0]) not in narrow for dot in dots]
    weights, sums = _matrices("whole", read), _matrices("sum", made)
    widths = {width_of(t) for t in wide} | {n for _, n, _ in (*weights, *sums)}
    cuts = bool(wide) and not any(summed) and len(widths) == 1
    cuts = cuts and min(widths) % LANES == 0
    return RouterSizes(
        tokens=told["tokens"],
        groups=told["groups"],
        rows=tuple((width_of(t), bytes_of(t)) for t in wide),
        columns=tuple(width_of(t) for t in tokens if width_of(t) in narrow),
        weights=weights,
        sums=sums,
        cuts=cuts,
    )


def width_of(tensor: Tensor) -> int:
    """How many numbers of it each token has."""
    return tensor.shape[1] if len(tensor.shape) == 2 else 1


def bytes_of(tensor: Tensor) -> int:
    """Bytes of one element."""
    return _BYTES.get(tensor.dtype, 4)


def _matrices(
    wanted: str, tensors: Iterable[tuple[str, Tensor]]
) -> tuple[tuple[int, int, int], ...]:
    return tuple(
        (min(t.shape), max(t.shape), bytes_of(t))
        for kind, t in tensors
        if kind == wanted and len(t.shape) == 2
    )


def _up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple
