"""Reader of XLA's compiled text: which ops run, in which order, how often.

A compiled module is scheduled: the order of its text is the order in which the core
runs it. What follows from a line are the op's type, operands, called computations, and
the backend's own configuration, in which XLA keeps its estimate of the cycles.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any

from ir.errors import DumpFailed

_HEAD = re.compile(r"^(?P<entry>ENTRY )?%(?P<name>[\w.\-]+) \(.*\) -> .* \{$")
_LINE = re.compile(r"^\s+(?P<root>ROOT )?%(?P<name>[\w.\-]+) = (?P<rest>.*)$")
_CALLED = re.compile(
    r"\b(?:calls|body|to_apply|true_computation|false_computation)=%([\w.\-]+)"
)
_CONDITION = re.compile(r"\bcondition=%([\w.\-]+)")
_BRANCHES = re.compile(r"\bbranch_computations=\{([^}]*)\}")
_NAME = re.compile(r"%([\w.\-]+)")
_ARRAY = re.compile(r"\b(pred|[a-z]+\d+\w*)\[([\d,]*)\](?:\{([^{}]*)\})?")
_OP_NAME = re.compile(r'op_name="([^"]*)"')
_TARGET = re.compile(r'custom_call_target="([^"]*)"')
_OPERAND_TYPES = re.compile(r"operand_layout_constraints=\{(.*?\})\}")
_BITS = re.compile(r"\d+")
_METADATA = re.compile(r", metadata=\{[^}]*\}|/\*.*?\*/")


@dataclass(frozen=True)
class Array:
    """One array of a type: `bf16[8,128]{1,0:T(8,128)S(1)}` lies in memory space 1."""

    dtype: str
    shape: tuple[int, ...]
    space: int

    @property
    def bytes(self) -> int:
        """Without the padding of its tiles."""
        found = _BITS.search(self.dtype)
        bits = 8 if self.dtype == "pred" or found is None else int(found[0])
        return -(-prod(self.shape) * bits // 8)

    @property
    def short(self) -> str:
        """`bf16[8,128]`."""
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"


@dataclass(frozen=True)
class Op:
    """One instruction of a computation; `text` is what stands behind `opcode(`."""

    name: str
    opcode: str
    type: str
    operands: tuple[str, ...]
    text: str
    root: bool = False

    @cached_property
    def arrays(self) -> tuple[Array, ...]:
        """The arrays of its result."""
        return tuple(arrays_of(self.type))

    @cached_property
    def config(self) -> dict[str, Any]:
        """The backend's configuration; empty where there is none."""
        _, found, rest = self.text.partition("backend_config=")
        if not found:
            return {}
        held, _ = json.JSONDecoder().raw_decode(rest)
        return held if isinstance(held, dict) else {}

    @property
    def estimated_cycles(self) -> int | None:
        """XLA's own estimate for the whole op."""
        told = self.config.get("window_config", {}).get("estimated_cycles")
        return None if told is None else int(told)

    @property
    def source(self) -> str:
        """The path of JAX's names that it came from."""
        found = _OP_NAME.search(self.text)
        return found[1] if found else ""

    @property
    def target(self) -> str:
        """A custom call's target."""
        found = _TARGET.search(self.text)
        return found[1] if found else ""

    @property
    def operand_types(self) -> tuple[str, ...]:
        """A custom call's operands, `bf16[8,128]` each."""
        found = _OPERAND_TYPES.search(self.text)
        return tuple(a.short for a in arrays_of(found[1])) if found else ()

    @property
    def called(self) -> tuple[str, ...]:
        """Computations that it runs: a loop's body, a fusion's, the branches."""
        found = _BRANCHES.search(self.text)
        named = _NAME.findall(found[1]) if found else []
        return (*_CALLED.findall(self.text), *named)

    @property
    def condition(self) -> str:
        """A loop's condition."""
        found = _CONDITION.search(self.text)
        return found[1] if found else ""


@dataclass(frozen=True)
class Module:
    """Computations by name, their ops in order; `entry` is the one that runs."""

    name: str
    entry: str
    computations: dict[str, tuple[Op, ...]] = field(repr=False)

    def ops(self, computation: str) -> tuple[Op, ...]:
        """The ops of a computation in order."""
        return self.computations.get(computation, ())

    @cached_property
    def _by_name(self) -> dict[str, Op]:
        return {op.name: op for ops in self.computations.values() for op in ops}

    def find(self, name: str) -> Op | None:
        """The op of that name."""
        return self._by_name.get(name)

    def trips(self, loop: Op) -> int | None:
        """How often a `while` runs, where it counts up to a constant from one."""
        root = next((op for op in self.ops(loop.condition) if op.root), None)
        if root is None or "direction=LT" not in root.text:
            return None
        counter, limit = (self.find(name) for name in root.operands[:2])
        last = _constant(limit)
        if counter is None or last is None or "index=" not in counter.text:
            return None
        place = int(counter.text.split("index=")[1].split(",")[0])
        return last - (self._start(loop, place) or 0)

    def _start(self, loop: Op, place: int) -> int | None:
        """The constant that a loop's counter starts from, behind copies of it."""
        start = self.find(loop.operands[0])
        if start is None or place >= len(start.operands):
            return None
        found = self.find(start.operands[place])
        while found is not None and found.opcode == "copy":
            found = self.find(found.operands[0])
        return _constant(found)

    def pattern(self, op: Op) -> str:
        """The op's text without names: two ops of one pattern run the same code."""
        types = [found.type for n in op.operands if (found := self.find(n))]
        inner = [self._body_pattern(name) for name in op.called]
        text = _NAME.sub("%", _METADATA.sub("", op.text))
        return "\n".join([op.opcode, op.type, *types, text, *inner])

    def _body_pattern(self, computation: str) -> str:
        numbers: dict[str, int] = {}

        def number(match: re.Match[str]) -> str:
            return f"%{numbers.setdefault(match[1], len(numbers))}"

        lines = [
            f"{op.type} {op.opcode}({_METADATA.sub('', op.text)}"
            f"%{op.name} {' '.join('%' + name for name in op.operands)}"
            for op in self.ops(computation)
        ]
        return _NAME.sub(number, "\n".join(lines))


def _constant(op: Op | None) -> int | None:
    if op is None or op.opcode != "constant":
        return None
    value = op.text.split(")")[0]
    return int(value) if value.lstrip("-").isdigit() else None


def arrays_of(text: str) -> Iterator[Array]:
    """The arrays that a type names."""
    for match in _ARRAY.finditer(text):
        shape = tuple(int(size) for size in match[2].split(",") if size)
        _, space, rest = (match[3] or "").partition("S(")
        yield Array(match[1], shape, int(rest.split(")")[0]) if space else 0)


def read_module(text: str) -> Module:
    """Parse `compiled.as_text()`; raises `DumpFailed` where it has no entry."""
    computations: dict[str, tuple[Op, ...]] = {}
    entry, name = "", ""
    ops: list[Op] = []
    for line in text.splitlines():
        head = _HEAD.match(line)
        if head:
            name, ops = head["name"], []
            entry = name if head["entry"] else entry
        elif line.startswith("}") and name:
            computations[name], name = tuple(ops), ""
        elif name and (found := _LINE.match(line)):
            ops.append(_op(found))
    if entry not in computations:
        raise DumpFailed(what="the module", reason="its text has no whole ENTRY")
    title = text.split("\n", 1)[0].removeprefix("HloModule ").split(",")[0]
    return Module(title, entry, computations)


def _op(line: re.Match[str]) -> Op:
    type_, rest = _split_type(line["rest"])
    opcode, _, text = rest.partition("(")
    inside = text[: _closing(text)]
    operands = tuple(_NAME.findall(inside))
    return Op(line["name"], opcode, type_, operands, text, bool(line["root"]))


def _split_type(text: str) -> tuple[str, str]:
    if not text.startswith("("):
        type_, _, rest = text.partition(" ")
        return type_, rest
    end = _closing(text[1:]) + 2
    return text[:end], text[end:].lstrip()


def _closing(text: str) -> int:
    """Where the parenthesis closes that was open before `text`."""
    depth = 1
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if not depth:
            return place
    return len(text)
