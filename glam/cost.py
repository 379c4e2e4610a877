"""What a training run costs: FLOPs, chip-hours and energy.

The paper's inputs, each with its source: 1,024 TPU v4; 574 hours for 280B tokens;
326 W a chip as measured, and a power usage effectiveness of 1.11 (section 7 of the
paper and Patterson et al. 2021's method). They give 212.7 MWh, printed 213; 600B tokens
in proportion give 455.8, printed 456.
"""

from dataclasses import dataclass

from ir.errors import BadArgument

CHIPS = 1024
HOURS = 574.0
TOKENS = 280e9
WATTS = 326.0
OVERHEAD = 1.11
PRINTED = {280e9: 213.0, 600e9: 456.0}  # tokens: MWh


@dataclass(frozen=True)
class Cost:
    """FLOPs of the run; chip-hours; MWh at the meter."""

    flops: float
    chip_hours: float
    megawatt_hours: float


def cost(
    activated: int,
    tokens: float,
    peak: float,
    utilization: float,
    watts: float = WATTS,
    overhead: float = OVERHEAD,
) -> Cost:
    """The cost of training: 6 FLOPs an activated parameter and token.

    `peak` is a chip's FLOP/s, `utilization` the fraction of it that is reached, `watts`
    what one chip draws, `overhead` the data centre's power over the chips'. Attention
    scores and rematerialisation are not counted. Raises `BadArgument`.
    """
    positive = {"tokens": tokens, "peak": peak, "watts": watts}
    for name, value in positive.items():
        if not 0 < value < float("inf"):
            raise BadArgument(reason=f"{name}={value:g} must be a number above 0")
    if not 0 < utilization <= 1:
        reason = f"utilization={utilization:g} must be above 0 and at most 1"
        raise BadArgument(reason=reason)
    if not 1 <= overhead < float("inf"):
        reason = f"overhead={overhead:g} must be at least 1: it counts the chips' power"
        raise BadArgument(reason=reason)
    flops = 6.0 * activated * tokens
    hours = flops / (peak * utilization) / 3600
    return Cost(flops, hours, hours * watts * overhead / 1e6)


def paper_energy(tokens: float) -> float:
    """MWh of the paper's own run for that many tokens, from its hours and watts."""
    return CHIPS * HOURS * tokens / TOKENS * WATTS * OVERHEAD / 1e6
