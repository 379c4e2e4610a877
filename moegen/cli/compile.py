"""`moegen compile`: a layer to its emitted module, with the IR on the way."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ir.errors import UnknownPass, nearest
from moegen.cli.files import write_text
from moegen.cli.layer_options import add_layer_options, compile_layer
from moegen.cli.program import DONE, Subparsers, add_command, log, print_json

if TYPE_CHECKING:
    from moegen.operator import Op


def register(subparsers: Subparsers) -> None:
    """Add the command `compile`."""
    parser = add_command(
        subparsers,
        "compile",
        "emit the module of a layer",
        "moegen compile glam --set tokens=64 experts=8 --out generated",
    )
    add_layer_options(parser)
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        help="write the module into this folder; for a TPU it is a package, "
        "NAME/__init__.py with its kernels and its IR beside it",
    )
    parser.add_argument(
        "--print-after",
        metavar="PASS",
        help="print the IR after this pass, or 'all'",
    )
    parser.add_argument(
        "--no-locations", action="store_true", help="print IR without the user's lines"
    )
    parser.add_argument(
        "--dump-ir", metavar="DIR", type=Path, help="write the IR after each pass here"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def run(arguments: argparse.Namespace) -> int:
    """Compile, and say where the module lies."""
    wanted = _wanted(arguments)
    stages = _Stages(arguments, wanted)
    op = compile_layer(arguments, stages.see)
    path = op.path
    if arguments.out is not None:
        path = _write(op, arguments.out)
        _tell_hidden(arguments.out, op.name)
    size = sum(len(text.encode()) for text in op.emitted.files(op.name).values())
    if arguments.json:
        print_json(_document(op, path, size, stages))
        return DONE
    beside = len(op.emitted.beside)
    held = f"{size:,} bytes" + (f" with the {beside} files beside it" if beside else "")
    told = f"compiled {op.name} for {op.target}: {path} ({held})"
    if wanted:
        log(told)  # standard output is IR that another command may read
    else:
        print(told)
    return DONE


def _write(op: "Op", folder: Path) -> Path:
    """Write every file of a module; where the layer's own lies, which is the last."""
    path = folder
    for file, text in op.emitted.files(op.name).items():
        place = folder / file
        path = write_text(place.parent, place.name, text, "--out")
    return path


def _tell_hidden(folder: Path, name: str) -> None:
    """A CPU's module and a TPU's package of one name: Python imports the package."""
    if (folder / f"{name}.py").exists() and (folder / name / "__init__.py").exists():
        log(
            f"{folder} now holds both {name}.py and {name}/, of which Python imports "
            f"{name}/ alone: keep one, or compile with another --out"
        )


class _Stages:
    """Prints and writes the IR as each pass leaves it."""

    def __init__(self, arguments: argparse.Namespace, wanted: frozenset[str]) -> None:
        self.arguments = arguments
        self.wanted = wanted
        self.printed: dict[str, str] = {}
        self.files: list[Path] = []
        self.count = 0
        self.output = sys.stdout  # not the one that the layer's own prints go to

    def see(self, name: str, module: Any) -> None:
        from ir import mlir

        number, self.count = self.count, self.count + 1
        if self.arguments.dump_ir is not None:
            file, text = f"{number:02}-{name}.mlir", mlir.print_module(module)
            folder = self.arguments.dump_ir
            self.files.append(write_text(folder, file, text, "--dump-ir"))
        if name in self.wanted:
            text = mlir.print_module(module, not self.arguments.no_locations)
            self.printed[f"{number:02}-{name}"] = text
            if not self.arguments.json:
                print(f"// {number:02} after {name}\n{text}", file=self.output)


def _wanted(arguments: argparse.Namespace) -> frozenset[str]:
    """The passes to print after; raises `UnknownPass`, `UnknownTarget`."""
    name: str | None = arguments.print_after
    if name is None:
        return frozenset()
    from backends.targets import find_target
    from moegen.compiler import order_for

    order = order_for(find_target(arguments.target), arguments.weights)
    known = list(dict.fromkeys(("trace", *order)))
    if name == "all":
        return frozenset(known)
    if name not in known:
        listed = ", ".join((*known, "all"))
        raise UnknownPass(name=name, passes=listed, nearest=nearest(name, known))
    return frozenset({name})


def _document(op: "Op", path: Path, size: int, stages: _Stages) -> dict[str, Any]:
    return {
        "layer": op.name,
        "target": op.target,
        "dtype": stages.arguments.dtype,
        "weights": op.weights,
        "sizes": op.sizes,
        "module": str(path),
        "beside": list(op.emitted.beside),
        "bytes": size,
        "ir": stages.printed,
        "ir_files": [str(file) for file in stages.files],
    }
