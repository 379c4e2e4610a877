"""Runs in a child process: compiles one function for a described TPU.

`python -m backends.tpu.profile.ahead REQUEST.json`. libtpu may abort the process
that loads it, and reads its options once: so it never loads in the caller's.
"""

import importlib.util
import json
import re
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

_SHORT = {
    "bf16": "bfloat16",
    "f16": "float16",
    "f32": "float32",
    "s8": "int8",
    "s32": "int32",
    "u8": "uint8",
    "u32": "uint32",
    "pred": "bool",
}
_ARGUMENT = re.compile(r"(\w+)\[([\d, ]*)\]")


def main(path: str) -> None:
    """Compile what the request names; leave `compiled.txt` and `versions.json`.

    With a routing in the request, leave `calls.json` too.
    """
    request = json.loads(Path(path).read_text())
    function = _load(request["file"], request["function"])
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
    spec = importlib.util.spec_from_file_location(Path(file).stem, file)
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
    return jax.jit(function).trace(*[_shape(text, sharding) for text in args])


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


def _shape(text: str, sharding: Any) -> Any:
    import jax

    match = _ARGUMENT.fullmatch(text.strip())
    if match is None:
        raise SystemExit(f"{text!r} is not of the form bf16[4096,2048]")
    dtype = _SHORT.get(match[1], match[1])
    sizes = tuple(int(size) for size in match[2].split(",") if size.strip())
    return jax.ShapeDtypeStruct(sizes, dtype, sharding=sharding)


if __name__ == "__main__":
    main(sys.argv[1])
