"""How many rows and tiles kernels work on when routing is uniform, padding included."""

from collections.abc import Callable
from functools import cache
from math import exp, lgamma, log, log1p, sqrt

from backends.tpu.kernels.chunks import LEAST_ROWS

_SPREAD = 8  # standard deviations, beyond which a count does not occur


def multiplied(rows: int, chunk: int) -> int:
    """Rows that an expert with `rows` rows has multiplied: see `for_chunks`."""
    tail = chunk // 2 if chunk > LEAST_ROWS else 0
    whole = (rows + chunk - 1 - tail) // chunk
    left = rows - whole * chunk
    if left <= 0:
        return whole * chunk
    size = LEAST_ROWS
    while size < left:
        size *= 2
    return whole * chunk + size


@cache
def expected_multiplied(rows: int, experts: int, chunk: int) -> float:
    """Rows that all experts have multiplied, on average over uniform routings."""
    return _expected(rows, experts, lambda count: multiplied(count, chunk))


@cache
def expected_tiles(rows: int, experts: int, tile: int) -> float:
    """Tiles that have rows, on average over uniform routings."""
    return _expected(rows, experts, lambda count: -(-count // tile))


@cache
def last_tiles(
    rows: int, experts: int, tile: int, chunk: int
) -> tuple[tuple[int, float], ...]:
    """Experts' last tiles: the rows that one has multiplied, and how many have those.

    On average over uniform routings; an expert's other tiles are full.
    """
    found: dict[int, float] = {}
    for count, number in _counts(rows, experts):
        if count:
            size = multiplied(1 + (count - 1) % tile, chunk)
            found[size] = found.get(size, 0.0) + number
    return tuple(sorted(found.items()))


def _expected(rows: int, experts: int, of: Callable[[int], int]) -> float:
    """A function of an expert's rows, summed over the experts."""
    return sum(number * of(count) for count, number in _counts(rows, experts))


@cache
def _counts(rows: int, experts: int) -> tuple[tuple[int, float], ...]:
    """How many experts have so many rows, on average.

    An expert's rows are binomial: `rows` draws, each its own once in `experts` times.
    """
    if experts == 1:
        return ((rows, 1.0),)
    mean = rows / experts
    spread = _SPREAD * sqrt(mean) + _SPREAD
    counts = range(max(0, int(mean - spread)), min(rows, int(mean + spread)) + 1)
    shares = [_probability(count, rows, experts) for count in counts]
    scale = experts / sum(shares)
    return tuple((c, s * scale) for c, s in zip(counts, shares, strict=True))


def _probability(count: int, rows: int, experts: int) -> float:
    ways = lgamma(rows + 1) - lgamma(count + 1) - lgamma(rows - count + 1)
    return exp(ways - count * log(experts) + (rows - count) * log1p(-1 / experts))
