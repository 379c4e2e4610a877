"""moegen: mixture-of-experts layers from twenty lines of Python to readable kernels."""

from typing import TYPE_CHECKING, Any

from ir.errors import MoegenError

if TYPE_CHECKING:
    from moegen.compiler import compile
    from moegen.operator import Op

__all__ = ["MoegenError", "Op", "compile"]
__version__ = "0.1.0"

_LAZY = {"compile": "moegen.compiler", "Op": "moegen.operator"}


def __getattr__(name: str) -> Any:
    """Import the compiler when it is first asked for, so that `--help` is quick."""
    if name not in _LAZY:
        raise AttributeError(f"module 'moegen' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(_LAZY[name]), name)
