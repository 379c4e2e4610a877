"""The CPU's schedule: which row counts an expert's work is compiled for."""

from typing import NamedTuple

FEW_ROWS = 64
FEW_TILES = (1, 2, 4, 8, 16, 32, 64)
TILES = (8, 16, 32, 48, 56, 64, 72, 80, 88, 96, 128, 256)
COLUMN_TILES = (8, 16, 32, 48, 64)
BFLOAT16_TILES = (8, 16, 32, 64)


class Schedule(NamedTuple):
    """How a grouped matmul runs, and in which dtypes all of a module's compute."""

    tiles: tuple[int, ...]
    by_columns: bool
    compute_dtype: str
    product_dtype: str


def default_schedule(
    rows: int, by_columns: bool, bfloat16_products: bool = False
) -> Schedule:
    """The schedule for `rows` rows in all; a pure function.

    The model behind it, in units of reading an expert's weights from memory once. A
    tile costs a copy of the weights (2) and a product that streams them again (1/2),
    plus its rows at about 1/30 each; products reach the dense product's speed from
    128 rows on. So one tile should hold an expert (up to 256 rows, where the copy is
    noise), and steps of 8 rows lose 4 rows of 64 to padding. With few rows, as in
    decoding, everything is the copy, and a product of one row is not rounded up:
    below 8 rows XLA's matrix-vector product is twice as fast as a tile of 8.

    `by_columns` says that every product has its rows as columns on the right of
    [out, in] weights, and that no sums of the weights' size are made. XLA's kernel
    then reads the weights as they lie, at the dense product's speed for 16 to 64
    columns in steps of 16, and no faster for more: a further tile costs its own
    columns only.

    Experts and widths scale both sides alike, so they do not enter: programs for 8
    and 256 experts are the same, and so is their memory. bfloat16 computes in
    float32, which is faster: the cast takes the place of the copy. Not so with
    `bfloat16_products`, on a CPU that multiplies bfloat16: twice as fast as float32,
    and best at powers of two of columns.
    """
    columns = BFLOAT16_TILES if bfloat16_products else COLUMN_TILES
    ladder = FEW_TILES if rows <= FEW_ROWS else columns if by_columns else TILES
    enough = next((tile for tile in ladder if tile >= rows), ladder[-1])
    tiles = tuple(tile for tile in ladder if tile <= enough)
    products = "bfloat16" if bfloat16_products else "float32"
    return Schedule(tiles, by_columns, "float32", products)
