"""What is known while one layer is traced: sizes, parameters, losses, metrics."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import jax
from jax.extend.core import get_opaque_trace_state

from ir.errors import (
    InsideTransform,
    OutsideLayer,
    SizeNotPositive,
    UnknownAxis,
    Where,
)
from ir.types import Tensor
from moegen.places import user_place


@dataclass(frozen=True)
class Parameter:
    """A parameter as declared: its axes by name, and how it starts."""

    name: str
    tensor: Tensor
    axes: tuple[str, ...]
    init: Mapping[str, Any]
    where: Where | None


@dataclass(frozen=True)
class Routing:
    """What is known of a choice: its experts, and how many rows it can keep."""

    experts: int
    rows: int


@dataclass
class Session:
    """The state of one trace."""

    layer: str
    sizes: Mapping[str, Any]
    dtype: str
    inputs: Mapping[str, Tensor] = field(default_factory=dict)
    parameters: dict[str, Parameter] = field(default_factory=dict)
    losses: dict[str, tuple[jax.Array, float]] = field(default_factory=dict)
    metrics: dict[str, jax.Array] = field(default_factory=dict)
    recorded: dict[str, Where | None] = field(default_factory=dict)
    tokens: dict[int, int] = field(default_factory=dict)
    labels: dict[int, tuple[Any, str]] = field(default_factory=dict)
    routings: dict[int, tuple[Any, Routing]] = field(default_factory=dict)
    outermost: Any = None

    def begin(self) -> None:
        """Note JAX's trace: what it traces within, it may keep and never run again."""
        self.outermost = get_opaque_trace_state()

    def shape(
        self, axes: tuple[str, ...], what: str, where: Where | None
    ) -> tuple[int, ...]:
        """The sizes of named axes; raises for a name that is no size of the layer."""
        known = {n: v for n, v in self.sizes.items() if type(v) is int}
        for axis in axes:
            if axis not in known:
                listed = ", ".join(known) or "none"
                raise UnknownAxis(where, what=what, axis=axis, sizes=listed)
            if known[axis] < 1:
                raise SizeNotPositive(where, size=axis, value=known[axis])
        return tuple(known[axis] for axis in axes)

    def label(self, array: Any, text: str) -> None:
        """Remember what to call `array` in errors."""
        self.labels[id(array)] = (array, text)

    def describe(self, array: Any) -> Tensor:
        """Shape, dtype and name of a traced array."""
        name = self.labels.get(id(array), (None, ""))[1]
        return Tensor(tuple(array.shape), dtype_name(array.dtype), name)


def dtype_name(dtype: Any) -> str:
    """The name under which the IR knows a NumPy or JAX dtype."""
    return str(jax.numpy.dtype(dtype).name)


_CURRENT: ContextVar[Session | None] = ContextVar("session", default=None)


@contextmanager
def tracing(session: Session) -> Iterator[Session]:
    """Make `session` the one that moegen.lang records into."""
    token = _CURRENT.set(session)
    try:
        yield session
    finally:
        _CURRENT.reset(token)


def current(op: str) -> Session:
    """The session of the layer being traced.

    Raises `OutsideLayer` if there is none, and `InsideTransform` in a function that JAX
    traces on its own: it would be told to the session once, however often it is used.
    """
    session = ongoing()
    if session is None:
        raise OutsideLayer(user_place(), op=op)
    if session.outermost != get_opaque_trace_state():
        raise InsideTransform(user_place(), op=op, layer=session.layer)
    return session


def ongoing() -> Session | None:
    """The session of the layer being traced, from wherever it is asked."""
    return _CURRENT.get()
