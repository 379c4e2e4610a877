"""Runs in a child process: compiles one function for a described TPU.

`python -m backends.tpu.profile.ahead REQUEST.json`. libtpu may abort the process
that loads it, and reads its options once: so it never loads in the caller's.
"""

import functools
import importlib.util
import json
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from backends.tpu.profile.arguments import read_arguments
from ir.errors import MoegenError

_LOADED = "moegen_profiled"


def main(path: str) -> int:
    """Compile what the request names; leave what went wrong in `failure.txt`."""
    request = json.loads(Path(path).read_text())
    try:
        _compile(request)
    except (Exception, SystemExit) as error:
        kind = "" if isinstance(error, MoegenError) else f"{type(error).__name__}: "
        told = " ".join(f"{kind}{error}".split())
        (Path(request["out"]) / "failure.txt").write_text(told)
        return 1
    return 0


def _compile(request: dict[str, Any]) -> None:
    """Leave `compiled.txt`, `versions.json` and, with a routing, `calls.json`."""
    sys.path[:0] = request["paths"]
    function = _load(request["file"], request["function"])
    if request["static"]:
        function = functools.partial(function, **request["static"])
    out = Path(request["out"])
    device = _device(request["topology"])
    with _facts_of(device):
        traced = _trace(function, request["args"], device)
    if routing := request.get("routing"):
        (out / "calls.json").write_text(_calls(traced, routing))
    with _facts_of(device):
        compiled = traced.lower(lowering_platforms=("tpu",)).compile()
    (out / "compiled.txt").write_text(str(compiled.as_text()))
    names = ("jax", "libtpu")
    (out / "versions.json").write_text(json.dumps({n: version(n) for n in names}))


def _load(file: str, name: str) -> Callable[..., Any]:
    # A name of our own: a folder or a file may be called as what it imports is.
    spec = importlib.util.spec_from_file_location(_LOADED, file)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{file} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    function: Callable[..., Any] = getattr(module, name)
    return function


def _device(topology: Any) -> Any:
    from jax.experimental import topologies

    return topologies.get_topology_desc(platform="tpu", **topology).devices[0]


def _trace(function: Callable[..., Any], args: list[str], device: Any) -> Any:
    import jax

    sharding = jax.sharding.SingleDeviceSharding(device)
    shapes = [
        jax.ShapeDtypeStruct(each.shape, each.dtype, sharding=sharding)
        for text in args
        for each in read_arguments(text)
    ]
    return jax.jit(function).trace(*shapes)


def _calls(traced: Any, routing: dict[str, Any]) -> str:
    """The kernels' integer operands under a routing, computed on the CPU."""
    from backends.tpu.profile.operand_values import kernel_calls
    from backends.tpu.profile.routing import Routing

    held = Routing(routing["kind"], tuple(routing["counts"]))
    return json.dumps([asdict(call) for call in kernel_calls(traced, held)])


def _facts_of(device: Any) -> AbstractContextManager[Any]:
    """Lets kernels ask for TPU facts (`pltpu.get_tpu_info`) while they are traced."""
    import jax

    described = jax.sharding.AbstractDevice(
        device_kind=device.device_kind,
        num_cores=getattr(device, "num_cores", None),
        platform="tpu",
    )
    # With a named axis, later calls of jit would fail.
    mesh = jax.sharding.AbstractMesh((), (), abstract_device=described)
    context: AbstractContextManager[Any] = jax.sharding.use_abstract_mesh(mesh)
    return context


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
