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


def _expected(rows: int, experts: int, of: Callable[[int], int]) -> float:
    """A function of an expert's rows, summed over the experts.

    An expert's rows are binomial: `rows` draws, each its own once in `experts` times.
    """
    if experts == 1:
        return of(rows)
    mean = rows / experts
    spread = _SPREAD * sqrt(mean) + _SPREAD
    counts = range(max(0, int(mean - spread)), min(rows, int(mean + spread)) + 1)
    shares = [_probability(count, rows, experts) for count in counts]
    total = sum(s * of(c) for s, c in zip(shares, counts, strict=True))
    return experts * total / sum(shares)


def _probability(count: int, rows: int, experts: int) -> float:
    ways = lgamma(rows + 1) - lgamma(count + 1) - lgamma(rows - count + 1)
    return exp(ways - count * log(experts) + (rows - count) * log1p(-1 / experts))
