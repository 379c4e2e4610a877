"""`moegen check`: a layer against the float64 interpreter, over many routings."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

from ir.errors import BadArgument, nearest
from moegen.cli.layer_options import (
    add_layer_options,
    read_schedule,
    read_sizes,
)
from moegen.cli.program import DONE, NO, Subparsers, add_command, log, print_json

if TYPE_CHECKING:
    from moegen.check import Case


def register(subparsers: Subparsers) -> None:
    """Add the command `check`."""
    parser = add_command(
        subparsers,
        "check",
        "compare a layer, forward and every gradient, with the float64 interpreter",
        "moegen check glam --dtype bfloat16    (or: moegen check all)",
    )
    add_layer_options(parser)
    parser.add_argument(
        "--routing", action="append", metavar="NAME", help="only this one; repeatable"
    )
    parser.add_argument("--seed", type=int, default=0, help="of inputs and parameters")
    parser.add_argument(
        "--reruns", type=int, default=100, help="bit-equal reruns to ask for (100)"
    )
    parser.add_argument(
        "--interpret",
        action="store_true",
        help="run an accelerator's kernels as XLA code, on this machine",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def run(arguments: argparse.Namespace) -> int:
    """Check one layer, or all that ship; exit 1 if any tensor is beyond its bound."""
    with redirect_stdout(sys.stderr):  # what the layer's own code prints
        cases = _cases(arguments)
    if all(case.skipped for case in cases):
        told = "; ".join(f"{case.routing}: {case.skipped}" for case in cases)
        raise BadArgument(reason=f"nothing was checked, no routing applies: {told}")
    if arguments.json:
        print_json(
            {"cases": [_row(case) for case in cases], "obtained": _obtained(arguments)}
        )
    else:
        _print(cases, _obtained(arguments))
    return DONE if all(case.ok for case in cases) else NO


def _cases(arguments: argparse.Namespace) -> "list[Case]":
    sizes = read_sizes(arguments.sizes)
    from moegen.check import ROUTINGS
    from moegen.check.run import check_each
    from moegen.layers import SHIPPED, find_layer

    if arguments.reruns < 0:
        reason = f"--reruns {arguments.reruns}: it must be 0 or more"
        raise BadArgument(reason=reason)
    _require_device(arguments.target, arguments.interpret)
    for name in arguments.routing or ():
        if name not in ROUTINGS:
            close = nearest(name, list(ROUTINGS))
            listed = ", ".join(ROUTINGS)
            reason = f"there is no routing '{name}'; they are {listed}{close}"
            raise BadArgument(reason=reason)
    layers = list(SHIPPED) if arguments.layer == "all" else [arguments.layer]
    found = []
    for name in layers:
        for case in check_each(
            find_layer(name),
            arguments.target,
            arguments.dtype,
            sizes,
            arguments.routing or list(ROUTINGS),
            arguments.seed,
            arguments.reruns,
            arguments.cache,
            arguments.interpret,
            arguments.weights,
            read_schedule(arguments.schedule),
        ):
            found.append(case)
            if sys.stderr.isatty():
                log(f"... {case.layer} {case.routing}: {_verdict(case)}")
    return found


def _require_device(target: str, interpret: bool) -> None:
    """Refuse to run an accelerator's kernels where there is none."""
    import jax

    here = jax.default_backend()
    if not interpret and here != "tpu" and target.startswith("tpu"):
        reason = f"this machine has no {target} (JAX runs on {here}): add --interpret"
        raise BadArgument(reason=reason)


def _verdict(case: "Case") -> str:
    if case.skipped:
        return "does not apply"
    return "ok" if case.ok else "WRONG"


def _row(case: "Case") -> dict[str, Any]:
    worst = case.worst
    return {
        "layer": case.layer,
        "dtype": case.dtype,
        "routing": case.routing,
        "sizes": dict(case.sizes),
        "verdict": _verdict(case),
        "worst tensor": worst.name if worst else None,
        "error": worst.error if worst else None,
        "bound": worst.bound if worst else None,
        "note": case.skipped or (worst.note if worst else ""),
        "errors": {f.name: f.error for f in case.findings},
    }


def _print(cases: "Sequence[Case]", obtained: str) -> None:
    import numpy as np
    from tabulate import tabulate

    shown = ("layer", "dtype", "routing", "worst tensor", "error", "bound", "verdict")
    rows = [_row(case) for case in cases]
    done = [row for row in rows if row["error"] is not None]
    table = [[_cell(row[key]) for key in shown] for row in done]
    print(tabulate(table, headers=shown, disable_numparse=True))
    wrong = [f for case in cases for f in case.findings if not f.ok]
    for case in cases:
        for finding in case.findings:
            if not finding.ok:
                print(f"WRONG: {case.layer}, {case.routing}: {finding}")
    worst: dict[str, float] = {}
    for case in cases:
        for finding in case.findings:
            known = worst.get(finding.name, 0.0)
            worst[finding.name] = float(np.maximum(known, finding.error))  # NaN stays
    print("\nWorst relative error (Frobenius) of each tensor, over all routings:")
    print(tabulate([[n, f"{e:.1e}"] for n, e in worst.items()], disable_numparse=True))
    skipped = sum(bool(case.skipped) for case in cases)
    applied = len(cases) - skipped
    told = f"{applied} case{'' if applied == 1 else 's'}, {len(wrong)} beyond a bound"
    if skipped:
        told += f"; {skipped} do not apply"
    print(f"\n{told}. {obtained[0].upper()}{obtained[1:]}.")


def _cell(value: Any) -> str:
    return f"{value:.1e}" if isinstance(value, float) else str(value)


def _obtained(arguments: argparse.Namespace) -> str:
    """How the figures came about."""
    import jax

    how = "interpreted on" if arguments.interpret else "measured on"
    where = f"{how} {jax.default_backend()}, jax {jax.__version__}"
    return f"{where}, against the float64 interpreter"
