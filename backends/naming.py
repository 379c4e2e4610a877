"""Python names for the values of a function."""

import builtins
import keyword
import re

from ir import mlir

_WORD = re.compile(r"[A-Za-z_]\w*")
_RESERVED = {*keyword.kwlist, *dir(builtins), "jax", "jnp", "lax", "np"}
_RESERVED |= {"params", "results"}


class Names:
    """Gives each value a name: the user's own where the IR kept it.

    A name is used again once the value that held it has had its last use, as a person
    would write `gates = gates / total`.
    """

    def __init__(self, reserved: set[str]) -> None:
        self.reserved = _RESERVED | reserved
        self.holders: dict[str, int] = {}

    def give(self, wanted: str, last_use: int, now: int) -> str:
        """A name like `wanted` that nothing still needed at position `now` holds."""
        base = "".join(c if c.isalnum() else "_" for c in wanted).strip("_") or "value"
        if base[0].isdigit() or base in self.reserved:
            base = f"{base}_" if not base[0].isdigit() else f"v{base}"
        name, number = base, 2
        while self.holders.get(name, -1) > now or name in self.reserved:
            name, number = f"{base}_{number}", number + 1
        self.holders[name] = last_use
        return name

    def hold(self, text: str, until: int) -> None:
        """Keep every name that occurs in `text` until position `until`."""
        for word in _WORD.findall(text):
            if word in self.holders:
                self.holders[word] = max(self.holders[word], until)


def wanted_name(op: mlir.OpView) -> str:
    """The user's name for an op's result, else one after what it does."""
    found: str = mlir.name_of(op.operation.location)
    if found:
        return found
    title: str = op.operation.name.split(".")[-1]
    return _TITLES.get(title, title)


_TITLES = {
    "dot_general": "product",
    "broadcast_in_dim": "spread",
    "reduce": "total",
    "add": "total",
    "map": "value",
    "top_k": "choice",
    "row_plan": "plan",
    "assign": "kept",
    "softmax_grad": "d_logits",
    "put": "d_scores",
    "take": "values",
    "collect": "d_gates",
}
