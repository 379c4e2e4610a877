"""Data parallelism: one mesh axis over all devices of all processes (jax.distributed).

A process is told its share of a batch; every device holds the whole state.
"""

import socket
from typing import Any, NoReturn

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from glam.train.learner import Batch
from glam.train.step import AXIS, ROWS
from ir.errors import BadArgument

# Seconds until the processes must have found each other.
_PATIENCE = 120


def join(coordinator: str, processes: int, process: int) -> None:
    """Join the processes of a run; before anything else of JAX is used.

    `coordinator` is HOST:PORT of process 0. Raises `BadArgument` where they do not
    find each other.
    """
    host, colon, port = coordinator.rpartition(":")
    if not (colon and host and port.isdecimal()):
        _refuse(f"--coordinator {coordinator}: write HOST:PORT of process 0")
    if not 0 <= process < processes:
        _refuse(f"--process {process}: it must lie in 0..{processes - 1}")
    try:
        jax.distributed.initialize(
            coordinator, processes, process, initialization_timeout=_PATIENCE
        )
    except RuntimeError as error:
        told = str(error).splitlines()[0]
        _refuse(
            f"process {process} of {processes} did not find the others at "
            f"{coordinator} in {_PATIENCE} s: {told}"
        )


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port: int = probe.getsockname()[1]
        return port


def all_devices() -> Mesh:
    """A mesh of one axis over the devices of all processes, in their order."""
    return Mesh(np.array(jax.devices()), (AXIS,))


def place(batch: Batch, parts: int, mesh: Mesh) -> dict[str, jax.Array]:
    """This process' rows [rows, ...] as its share of arrays [parts, all rows, ...]."""
    sharding = NamedSharding(mesh, ROWS)

    def globally(rows: Any) -> jax.Array:
        local = np.reshape(rows, (parts, -1, *np.shape(rows)[1:]))
        array: jax.Array = jax.make_array_from_process_local_data(sharding, local)
        return array

    return {name: globally(rows) for name, rows in batch.items()}


def flags(value: bool, mesh: Mesh) -> jax.Array:
    """bool [devices]: this process' answer, on each of its devices."""
    sharding = NamedSharding(mesh, PartitionSpec(AXIS))
    local = np.full(jax.local_device_count(), value)
    array: jax.Array = jax.make_array_from_process_local_data(sharding, local)
    return array


def from_first(value: int | None) -> int | None:
    """What process 0 says, in every process; a collective operation."""
    if jax.process_count() == 1:
        return value
    from jax.experimental import multihost_utils

    told = np.int64(-1 if value is None else value)
    heard = int(multihost_utils.broadcast_one_to_all(told))
    return None if heard < 0 else heard


def _refuse(reason: str) -> NoReturn:
    raise BadArgument(reason=reason)
