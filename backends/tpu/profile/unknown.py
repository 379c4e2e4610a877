"""Values that the simulator cannot know: they spread, and stop it where they decide."""

from typing import Any

from ir.errors import UnknownScalar


class Unknown:
    """A value known only at run time; `origin` says where it came from.

    Arithmetic with it is unknown too, except where the other side decides alone:
    `and` with zero, `or` with true. Asking whether it is true raises.
    """

    __slots__ = ("origin",)

    def __init__(self, origin: str) -> None:
        self.origin = origin

    def _spread(self, *_: Any) -> "Unknown":
        return self

    def __and__(self, other: Any) -> Any:
        return self if isinstance(other, Unknown) or other else other

    def __or__(self, other: Any) -> Any:
        return other if other is True else self

    __rand__ = __and__
    __ror__ = __or__
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _spread
    __xor__ = __rxor__ = _spread
    __lshift__ = __rlshift__ = __rshift__ = __rrshift__ = _spread
    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __neg__ = _spread
    __lt__ = __le__ = __gt__ = __ge__ = _spread

    def __eq__(self, _: object) -> Any:
        return self

    def __ne__(self, _: object) -> Any:
        return self

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        raise UnknownScalar(use="the kernel's path", origin=self.origin)


def known(value: Any, use: str) -> int:
    """`value` as a number, or the error that says what it is needed for."""
    if isinstance(value, Unknown):
        raise UnknownScalar(use=use, origin=value.origin)
    return int(value)
