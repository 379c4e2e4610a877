"""`moegen profile`: the time of any JAX function on a TPU, without one."""

import argparse
import ast
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from moegen.cli.layer_options import add_layer_options, compile_layer
from moegen.cli.program import DONE, Subparsers, add_command, log, print_json

if TYPE_CHECKING:
    from backends.tpu.profile.dump import Dump

_PASSES = ("forward", "training")
_LEAST_SHARE = 0.01  # of the time, for an op to have a line of its own
_HEADERS = (
    "op",
    "kind",
    "runs",
    "us",
    "share %",
    "MXU %",
    "HBM GB/s",
    "binds",
    "% of its peak",
    "stalls",
    "spills",
    "from",
    "class",
)
_ALIGN = (
    "left",
    "left",
    *["right"] * 5,
    "left",
    "right",
    "left",
    "right",
    *["left"] * 2,
)


def register(subparsers: Subparsers) -> None:
    """Add the command `profile`."""
    parser = add_command(
        subparsers,
        "profile",
        "estimate the time of a JAX function or a layer on a TPU, without one",
        "moegen profile kernels.py:attend --target tpu-v5e "
        "--args 'bf16[4096,2048] s32[8]'\n"
        "         moegen profile glam --target tpu-v4 --dtype bfloat16 --html a.html",
    )
    add_layer_options(parser)
    parser.add_argument(
        "--args",
        nargs="+",
        metavar="TYPE[SIZES]",
        help="arguments of a plain JAX function; without them it is a layer",
    )
    parser.add_argument(
        "--pass",
        dest="pass_",
        choices=_PASSES,
        default="forward",
        help="of a layer (default: forward)",
    )
    parser.add_argument(
        "--routing",
        default="uniform",
        metavar="NAME|FILE.json",
        help="how rows fall on experts: balanced, uniform, zipf, one, or a file with a "
        "list of counts. Integer arguments [E] become rows of each expert, [T, K] "
        "choices, and so does what top_k finds (default: uniform)",
    )
    parser.add_argument(
        "--html", metavar="FILE", type=Path, help="write a page to look at, too"
    )
    parser.add_argument(
        "--limit", type=float, default=600.0, help="seconds that compiling may take"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def run(arguments: argparse.Namespace) -> int:
    """Print the time line's ops, and what each of them spends its time on."""
    chip = _chip(arguments.target)
    from backends.tpu.profile.module import profile_module
    from backends.tpu.profile.report import document

    dump, told = _dumped(arguments, chip)
    log(f"simulating {len(dump.kernels)} pieces of code")
    report = document(profile_module(dump), **told)
    if arguments.html:
        from backends.tpu.profile.page import page

        _write(arguments.html, page(report))
    if arguments.json:
        print_json(report)
        return DONE
    _print(report)
    if arguments.html:
        print(f"page: {arguments.html}")
    return DONE


def _chip(target: str) -> str:
    from backends.targets import find_target
    from ir.errors import BadArgument

    if not find_target(target).cuts:
        reason = (
            f"moegen profile estimates TPUs and the target is '{target}': "
            "choose one with --target tpu-v5e"
        )
        raise BadArgument(reason=reason)
    return target.removeprefix("tpu-")


def _dumped(arguments: argparse.Namespace, chip: str) -> "tuple[Dump, dict[str, Any]]":
    """What was compiled, and what the report says about it."""
    from backends.tpu.profile.dump import dump
    from backends.tpu.profile.routing import read_routing

    routing = read_routing(arguments.routing)
    told = {"target": arguments.target, "routing": arguments.routing}
    with TemporaryDirectory(prefix="moegen-profile-") as folder:
        if arguments.args is None:
            file, function, types = _layer(arguments, Path(folder))
        else:
            file, function = _function(arguments.layer)
            types = _types(arguments.args)
        log(f"compiling {arguments.layer} for {arguments.target}")
        made = dump(
            file,
            function,
            types,
            chip,
            megacore=chip == "v4",
            seconds=arguments.limit,
            routing=routing,
        )
    return made, {"function": arguments.layer, "args": " ".join(types), **told}


def _types(texts: Sequence[str]) -> tuple[str, ...]:
    from backends.tpu.profile.arguments import read_arguments

    return tuple(map(str, read_arguments(" ".join(texts))))


def _function(name: str) -> tuple[Path, str]:
    """FILE.py and FUNCTION, both of which exist."""
    from ir.errors import BadArgument, nearest

    path, colon, function = name.rpartition(":")
    if not colon or not path.endswith(".py"):
        reason = f"with --args the function is FILE.py:FUNCTION, and got '{name}'"
        raise BadArgument(reason=reason)
    try:
        tree = ast.parse(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        reason = f"{path} cannot be read: {error.strerror or error}"
        raise BadArgument(reason=reason) from None
    except (SyntaxError, ValueError) as error:
        raise BadArgument(reason=f"{path} is not Python: {error}") from None
    names = list(_names(tree))
    if function not in names:
        have = f"it has {', '.join(names)}" if names else "it has none"
        close = nearest(function, names)
        reason = f"there is no function '{function}' in {path}; {have}{close}"
        raise BadArgument(reason=reason)
    return Path(path), function


def _names(tree: ast.Module) -> Sequence[str]:
    """What a module defines that may be a function."""
    found: list[str] = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            found.append(node.name)
        elif isinstance(node, ast.Assign):
            found += [t.id for t in node.targets if isinstance(t, ast.Name)]
        elif isinstance(node, ast.ImportFrom):
            found += [alias.asname or alias.name for alias in node.names]
    return found


def _layer(
    arguments: argparse.Namespace, folder: Path
) -> tuple[Path, str, tuple[str, ...]]:
    """The emitted module of a layer as a file, and its arguments."""
    from backends.tpu.profile.arguments import ArrayArgument
    from moegen.plain import FORWARD, TRAINING, arrays, whole

    op = compile_layer(arguments)
    file = folder / f"{op.name}.py"
    file.write_text(whole(op), encoding="utf-8")
    types = tuple(str(ArrayArgument(*held)) for held in arrays(op))
    return file, FORWARD if arguments.pass_ == "forward" else TRAINING, types


def _write(path: Path, text: str) -> None:
    from ir.errors import BadArgument

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        reason = f"--html {path} cannot be written: {error.strerror or error}"
        raise BadArgument(reason=reason) from None


def _print(report: dict[str, Any]) -> None:
    from tabulate import tabulate

    rate = f"{report['hbm_bytes_per_second'] / 1e9:,.0f}"
    best = f"{report['peak_hbm_bytes_per_second'] / 1e9:,.0f}"
    print(
        f"{report['function']} for {report['target']}, routing {report['routing']}: "
        f"{report['microseconds']:,.1f} us"
    )
    print(
        f"MXU fed {report['mxu_busy']:.0%} of the time, HBM {rate} GB/s of {best}; "
        f"{report['kernels']} kernels, {len(report['ops'])} ops"
    )
    shown = [op for op in report["ops"] if op["share"] >= _LEAST_SHARE]
    print(
        "\n"
        + tabulate(
            [_cells(op) for op in shown],
            _HEADERS,
            disable_numparse=True,
            colalign=_ALIGN,
        )
    )
    rest = [op for op in report["ops"] if op["share"] < _LEAST_SHARE]
    if rest:
        print(f"{len(rest)} more ops, {sum(op['us'] for op in rest):,.1f} us together")
    for name in sorted({op["class"] for op in shown}):
        print(f"class {name}: {report['confidence'][name]}")
    for op in shown:
        if op["note"]:
            print(f"{op['name']}: {op['note']}")
    print(f"\n{report['obtained'].capitalize()}; nothing here was measured.")


def _cells(op: dict[str, Any]) -> list[str]:
    known = op["binds"] is not None
    return [
        op["name"],
        op["kind"],
        str(op["runs"]),
        f"{op['us']:,.1f}",
        f"{100 * op['share']:.1f}",
        f"{100 * op['mxu_busy']:.0f}" if known else "",
        f"{op['hbm_bytes_per_second'] / 1e9:,.0f}" if known else "",
        op["binds"] or "",
        f"{100 * op['of_peak']:.0f}" if known else "",
        stalls(op["stalls"]) if known else "",
        str(op["spills"]) if known else "",
        op["obtained_from"],
        op["class"],
    ]


def stalls(shares: dict[str, float]) -> str:
    """The reasons that cost 2% of an op's time or more, the largest first."""
    found = sorted(shares.items(), key=lambda pair: -pair[1])
    return ", ".join(f"{name} {share:.0%}" for name, share in found if share >= 0.02)
