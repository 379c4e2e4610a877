"""`glam train`: train a model, or go on with one.

Exit 0: done, or saved and stopped by SIGTERM; 1: the run diverged; 2: bad use or bad
input; 130: saved and stopped by Ctrl-C.
"""

import argparse
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from glam.cli.model_options import quiet_orbax
from ir.errors import BadArgument
from moegen.cli.program import (
    DONE,
    INTERRUPTED,
    NO,
    Subparsers,
    add_command,
    log,
    print_json,
)

if TYPE_CHECKING:
    from glam.train.run import Outcome
    from glam.train.settings import Settings


def register(subparsers: Subparsers) -> None:
    """Add the command `train`."""
    parser = add_command(
        subparsers,
        "train",
        "train a model; the same command goes on where it was stopped",
        "glam train --config examples/tiny.toml --set train.steps=50",
    )
    add = parser.add_argument
    add("--config", type=Path, required=True, metavar="FILE", help="a TOML file")
    add(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a setting, as train.steps=50",
    )
    add("--out", type=Path, metavar="FOLDER", help="where the run lives")
    add("--html", type=Path, metavar="FILE", help="write the run's curves as a page")
    add("--json", action="store_true", help="print one JSON document of the outcome")
    add("--devices", type=int, metavar="N", help="share the CPU among so many devices")
    add(
        "--processes",
        type=int,
        default=1,
        metavar="N",
        help="how many processes train; without --coordinator all are started here",
    )
    add("--coordinator", metavar="HOST:PORT", help="where process 0 listens")
    add("--process", type=int, metavar="I", help="the number of this process, from 0")


def run(arguments: argparse.Namespace) -> int:
    """Train."""
    _check(arguments)
    from glam.train.settings import read_settings

    settings = read_settings(arguments.config, arguments.set, arguments.out)
    if arguments.processes > 1 and arguments.coordinator is None:
        from glam.train.launch import launch

        return launch(_again(arguments), arguments.processes)
    return _train(arguments, settings)


def _train(arguments: argparse.Namespace, settings: "Settings") -> int:
    """This process' share of the run."""
    import jax

    quiet_orbax()
    devices = _devices(arguments, settings)
    if devices > 1:
        jax.config.update("jax_num_cpu_devices", devices)
    from glam.train.native_output import standard_output_closed
    from glam.train.parallel import join
    from glam.train.session import train
    from glam.train.stop import StopRequest

    with StopRequest() as stop, standard_output_closed():
        if arguments.coordinator is not None:
            join(arguments.coordinator, arguments.processes, arguments.process)
        outcome = train(settings, stop)
    if not arguments.process:
        _tell(arguments, settings, outcome)
    if outcome.ended == "diverged":
        return NO
    return INTERRUPTED if stop.signal == signal.SIGINT else DONE


def _devices(arguments: argparse.Namespace, settings: "Settings") -> int:
    """How many devices this process shares its CPU among."""
    if arguments.devices is not None:
        return int(arguments.devices)
    return settings.plan.train.devices if arguments.processes == 1 else 1


def _tell(
    arguments: argparse.Namespace, settings: "Settings", outcome: "Outcome"
) -> None:
    if arguments.html is not None:
        from glam.train.page import write_page

        write_page(settings.out, arguments.html)
    if arguments.json:
        print_json(
            {
                "out": str(settings.out),
                "ended": outcome.ended,
                "step": outcome.step,
                "reason": outcome.reason or None,
            }
        )
        return
    told = {
        "done": "done",
        "stopped": "stopped and saved; the same command goes on",
        "diverged": f"given up: {outcome.reason}, and there is no healthy checkpoint "
        "to go back to; lower optimizer.peak, or look at the data",
    }
    log(f"{settings.out}: step {outcome.step}, {told[outcome.ended]}")


def _check(arguments: argparse.Namespace) -> None:
    """Refuse numbers that make no sense, and halves of a pair."""
    for name in ("processes", "devices"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise BadArgument(reason=f"--{name} {value}: at least 1")
    if (arguments.coordinator is None) != (arguments.process is None):
        raise BadArgument(
            reason="--coordinator and --process belong together: give both on each "
            "machine, or neither to start all processes here"
        )


def _again(arguments: argparse.Namespace) -> list[str]:
    """The command for one of its processes, without its number."""
    told = ["train", "--config", str(arguments.config)]
    told += [part for assigned in arguments.set for part in ("--set", assigned)]
    for name in ("out", "html", "devices", "processes"):
        value = getattr(arguments, name)
        if value is not None:
            told += [f"--{name}", str(value)]
    return [*told, "--json"] if arguments.json else told
