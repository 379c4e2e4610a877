"""The reference of the dialects, as Markdown, from the op classes themselves.

`python -m ir.reference > docs/ir.md` writes it; a test keeps the file current.
"""

import inspect
from collections.abc import Sequence

from ir import kernel, moe
from ir.op import OPS, Op

_INTRODUCTIONS = {"moe": moe, "kernel": kernel}


def reference() -> str:
    """The whole page."""
    parts = [
        "# The IR",
        "Written by `python -m ir.reference`; do not edit. Tensors are MLIR's own;"
        " elementwise math and dense products are `stablehlo` and `chlo`.",
    ]
    for dialect, module in _INTRODUCTIONS.items():
        parts.append(f"## `{dialect}`")
        parts.append(inspect.getdoc(module) or "")
        names = [name for name in OPS if name.startswith(f"{dialect}.")]
        parts.extend(_op(OPS[name]) for name in sorted(names))
    return "\n\n".join(parts) + "\n"


def _op(declared: type[Op]) -> str:
    attributes = [f"{n}: {kind.__name__}" for n, kind in declared.ATTRIBUTES.items()]
    lists = {
        "operands": declared.OPERANDS,
        "results": declared.RESULTS,
        "attributes": attributes,
        "regions": declared.REGIONS,
    }
    lines = [f"- {what}: {_listed(items)}" for what, items in lists.items() if items]
    doc = inspect.getdoc(declared) or ""
    return "\n\n".join((f"### `{declared.OPERATION_NAME}`", doc, "\n".join(lines)))


def _listed(items: Sequence[str]) -> str:
    return ", ".join(f"`{item}`" for item in items)


if __name__ == "__main__":
    print(reference(), end="")
