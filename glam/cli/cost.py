"""`glam cost`: FLOPs, chip-hours and energy of a training run."""

import argparse
from dataclasses import asdict

from glam.cost import OVERHEAD, PRINTED, WATTS, cost, paper_energy
from glam.family import count, find_model
from ir.errors import BadArgument
from moegen.cli.program import DONE, Subparsers, add_command, print_json


def register(subparsers: Subparsers) -> None:
    """Add the command `cost`."""
    parser = add_command(
        subparsers,
        "cost",
        "estimate FLOPs, chip-hours and MWh of training a model",
        "glam cost 64B/64E --tokens 280e9 --chip tpu-v4 --mfu 0.279",
    )
    parser.add_argument("name", metavar="NAME", help="a model of `glam models`")
    parser.add_argument("--tokens", type=float, default=280e9)
    parser.add_argument("--chip", default="tpu-v4", help="one of `moegen targets`")
    parser.add_argument(
        "--mfu",
        type=float,
        default=0.279,
        help="fraction of the peak (default: the paper's run)",
    )
    parser.add_argument(
        "--watts", type=float, default=WATTS, help="of one chip (default: the paper's)"
    )
    parser.add_argument("--pue", type=float, default=OVERHEAD)
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def run(arguments: argparse.Namespace) -> int:
    """Print the estimate, and the paper's own figures from its stated inputs."""
    activated = count(find_model(arguments.name)).activated
    peak = _peak(arguments.chip)
    tokens, watts, pue = arguments.tokens, arguments.watts, arguments.pue
    made = cost(activated, tokens, peak, arguments.mfu, watts, pue)
    paper = {f"{t:g}": [paper_energy(t), printed] for t, printed in PRINTED.items()}
    if arguments.json:
        inputs = {n: v for n, v in vars(arguments).items() if n not in _OWN}
        document = {"inputs": inputs | {"peak": peak, "activated": activated}}
        print_json(document | asdict(made) | {"paper_mwh": paper})
        return DONE
    print(
        f"{arguments.name}, {tokens:g} tokens on {arguments.chip}: estimated\n"
        f"  {made.flops:.3g} FLOPs = 6 x {activated:,} activated x tokens\n"
        f"  {made.chip_hours:,.0f} chip-hours at {arguments.mfu:g} of "
        f"{peak / 1e12:g} TFLOP/s\n"
        f"  {made.megawatt_hours:,.1f} MWh at {watts:g} W a chip, PUE {pue:g}\n"
        "\nThe paper's 64B/64E, 1,024 TPU v4 x 574 h for 280B tokens x 326 W x 1.11:"
    )
    for tokens_of, (computed, printed) in paper.items():
        print(f"  {tokens_of} tokens: {computed:.1f} MWh, printed {printed:g}")
    return DONE


_OWN = ("command", "json")


def _peak(chip: str) -> float:
    """FLOP/s in bfloat16; raises `BadArgument`."""
    from backends.chips import CHIPS

    if chip not in CHIPS:
        reason = f"there is no chip '{chip}'; the chips are {', '.join(CHIPS)}"
        raise BadArgument(reason=reason)
    value = CHIPS[chip].figures["bf16_flops"].value
    if value is None:
        raise BadArgument(reason=f"the peak of '{chip}' is not known: take another")
    return float(value)
