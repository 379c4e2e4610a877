"""Compile for a TPU that is not there, and simulate the schedule that came out."""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from moegen.cli.program import log

if TYPE_CHECKING:
    from backends.tpu.profile.routing import Routing
    from moegen.operator import Op

PASSES = ("forward", "training")


class Simulation(NamedTuple):
    """What the user asked for: `seconds` is the time that compiling may take."""

    function: str
    target: str
    routing: "Routing"
    routing_name: str
    seconds: float

    @property
    def chip(self) -> str:
        """As the profile calls it: `v5e`."""
        return self.target.removeprefix("tpu-")


def add_simulation_options(parser: argparse.ArgumentParser) -> None:
    """Add --routing and --limit."""
    parser.add_argument(
        "--routing",
        default="uniform",
        metavar="NAME|FILE.json",
        help="how rows fall on experts: balanced, uniform, zipf, one, or a file with a "
        "list of counts. Integer arguments [E] become rows of each expert, [T, K] "
        "choices, and so does what top_k finds (default: uniform)",
    )
    parser.add_argument(
        "--limit", type=float, default=600.0, help="seconds that compiling may take"
    )


def simulation(command: str, arguments: argparse.Namespace) -> Simulation:
    """What to simulate; raises `BadArgument` for what cannot be."""
    from backends.targets import find_target
    from backends.tpu.profile.routing import read_routing
    from ir.errors import BadArgument

    target, routing = arguments.target, arguments.routing
    if not find_target(target).cuts:
        reason = (
            f"{command} estimates TPUs and the target is '{target}': "
            "choose one with --target tpu-v5e"
        )
        raise BadArgument(reason=reason)
    if not 0 < arguments.limit < math.inf:  # neither does NaN lie between
        reason = (
            f"--limit takes seconds, a number above 0 such as 600, and got "
            f"{arguments.limit:g}"
        )
        raise BadArgument(reason=reason)
    read = read_routing(routing)
    return Simulation(arguments.layer, target, read, routing, arguments.limit)


def profiled_layer(op: "Op", pass_: str, asked: Simulation) -> dict[str, Any]:
    """The report of one of `PASSES` of a layer; see `profiled`."""
    from backends.tpu.profile.arguments import ArrayArgument
    from moegen.plain import FORWARD, TRAINING, arrays, whole

    types = tuple(str(ArrayArgument(*held)) for held in arrays(op))
    with TemporaryDirectory(prefix="moegen-profile-") as folder:
        file = whole(op).write(Path(folder), op.name)
        function = FORWARD if pass_ == "forward" else TRAINING
        return profiled(file, function, types, asked)


def profiled(
    file: Path, function: str, types: Sequence[str], asked: Simulation
) -> dict[str, Any]:
    """The report (`backends.tpu.profile.report.document`) of a function of a file.

    Raises `DumpFailed` where it does not compile, or not in time.
    """
    from backends.tpu.profile.dump import dump
    from backends.tpu.profile.module import profile_module
    from backends.tpu.profile.report import document
    from ir.errors import DumpFailed

    what = f"{asked.function} for {asked.target}"
    log(f"compiling {what}")
    try:
        made = dump(
            file,
            function,
            tuple(types),
            asked.chip,
            megacore=asked.chip == "v4",
            seconds=asked.seconds,
            routing=asked.routing,
        )
    except DumpFailed as error:  # whose file may be ours, and not the user's
        raise DumpFailed(what=what, reason=error.facts["reason"]) from None
    log(f"simulating {len(made.kernels)} pieces of code")
    return document(
        profile_module(made),
        function=asked.function,
        args=" ".join(types),
        target=asked.target,
        routing=asked.routing_name,
    )
