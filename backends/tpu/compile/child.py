"""Runs in a child process: compiles one job after another for described TPUs.

`python -m backends.tpu.compile.child` reads requests and writes answers, one JSON
object a line. It holds jax and libtpu, which may abort or hang: never its parent.
"""

import functools
import json
import os
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, TextIO

import jax
from jax.experimental import topologies
from jax.sharding import AbstractMesh, SingleDeviceSharding

from backends.emitted import Emitted
from backends.tpu.compile.classify import classify
from backends.tpu.compile.job import SOURCE, TOPOLOGIES, Kind

_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?[\w.-]+ = ", re.MULTILINE)
# What a kernel takes of memory space 1, which is VMEM.
_VMEM = re.compile(
    r'custom_call_target="tpu_custom_call".*"used_scoped_memory_configs":'
    r'\[[^\]]*\{"memory_space":"1","offset":"\d+","size":"(\d+)"\}'
)


def main() -> None:
    """Answer requests until the parent goes away."""
    requests, answers = _take_pipes()
    # Flags that libtpu refuses then show at the start, and not in every job.
    _device(tuple(TOPOLOGIES["v5e"].items()))
    _say(answers, {"ready": True})
    for request in iter(requests.get, None):
        _say(answers, answer(request))


def _take_pipes() -> tuple["queue.SimpleQueue[dict[str, Any]]", TextIO]:
    """Keep the pipes for ourselves: a job may print, or read its standard input."""
    incoming = os.fdopen(os.dup(0), encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    requests: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(incoming, requests), daemon=True).start()
    return requests, answers


def _listen(incoming: TextIO, requests: "queue.SimpleQueue[dict[str, Any]]") -> None:
    for line in incoming:
        requests.put(json.loads(line))
    # The parent is gone; whatever is being compiled is of no use to anybody.
    os._exit(0)


def _say(answers: TextIO, data: dict[str, Any]) -> None:
    answers.write(json.dumps(data) + "\n")
    answers.flush()


class _Clock:
    """The stage that a job is in, and how long it has been traced and compiled."""

    def __init__(self) -> None:
        self.stage = "import"
        self.started: float | None = None

    def enter(self, stage: str) -> None:
        self.stage = stage
        self.started = self.started or time.perf_counter()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.started if self.started else 0.0


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """The fields of an outcome, and `spent`: whether the job changed this process."""
    before = (dict(jax.config.values), dict(os.environ))
    clock = _Clock()
    try:
        fields = _compile(request, clock)
    except (Exception, SystemExit) as error:
        fields = _failure(error) | {"stage": clock.stage, "seconds": clock.seconds}
    jax.clear_caches()
    spent = before != (dict(jax.config.values), dict(os.environ))
    return {"outcome": fields, "spent": spent}


def _failure(error: BaseException) -> dict[str, Any]:
    lines = list(_own_lines(error.__traceback__))
    found = classify(type(error).__name__, str(error))
    return found | {"line": lines[-1] if lines else None}


def _own_lines(trace: TracebackType | None) -> Iterator[int]:
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == SOURCE:
            yield trace.tb_lineno
        trace = trace.tb_next


def _compile(request: dict[str, Any], clock: _Clock) -> dict[str, Any]:
    function = _load(request["source"], request["function"])
    device = _device(tuple(sorted(request["topology"].items())))
    sharding = SingleDeviceSharding(device)
    shapes = [
        jax.ShapeDtypeStruct(tuple(arg["shape"]), arg["dtype"], sharding=sharding)
        for arg in request["args"]
    ]
    bound = functools.partial(function, **dict(request["static"]))
    functools.update_wrapper(bound, function)
    with _facts_of(device):
        clock.enter("trace")
        traced = jax.jit(bound).trace(*shapes)
        clock.enter("lower")
        lowered = traced.lower(lowering_platforms=("tpu",))
        clock.enter("compile")
        compiled = lowered.compile()
    return {"kind": Kind.LEGAL, "seconds": clock.seconds} | _figures(compiled)


def _load(source: dict[str, Any], name: str) -> Callable[..., Any]:
    module = Emitted(**source).run("moegen_job", SOURCE)
    function: Callable[..., Any] = getattr(module, name)
    return function


@functools.cache
def _device(topology: tuple[tuple[str, str], ...]) -> Any:
    described = topologies.get_topology_desc(platform="tpu", **dict(topology))
    return described.devices[0]


def _facts_of(device: Any) -> AbstractContextManager[Any]:
    """Lets kernels ask for TPU facts (`pltpu.get_tpu_info`) while they are traced."""
    described = jax.sharding.AbstractDevice(
        device_kind=device.device_kind,
        num_cores=getattr(device, "num_cores", None),
        platform="tpu",
    )
    # With a named axis, later calls of jit would fail.
    mesh = AbstractMesh((), (), abstract_device=described)
    context: AbstractContextManager[Any] = jax.sharding.use_abstract_mesh(mesh)
    return context


def _figures(compiled: Any) -> dict[str, Any]:
    text = compiled.as_text()
    memory = compiled.memory_analysis()
    cost = compiled.cost_analysis() or {}
    return {
        "argument_bytes": getattr(memory, "argument_size_in_bytes", None),
        "output_bytes": getattr(memory, "output_size_in_bytes", None),
        "temporary_bytes": getattr(memory, "temp_size_in_bytes", None),
        "vmem_bytes": max(map(int, _VMEM.findall(text)), default=None),
        "hlo_instructions": len(_INSTRUCTION.findall(text)),
        "flops": _known(cost.get("flops")),
        "bytes_accessed": _known(cost.get("bytes accessed")),
    }


def _known(value: float | None) -> float | None:
    """XLA writes -1 for what it cannot tell."""
    return None if value is None or value < 0 else float(value)


if __name__ == "__main__":
    main()
