"""Scalar opcodes as Python expressions; words are unsigned 32-bit integers.

`note(a, b, kind)` records what an iteration's path rests on (see `loops`), and is
false, so it can stand in front of any value.
"""

from collections.abc import Callable
from typing import Any

from backends.tpu.profile.bundles import Instruction
from backends.tpu.profile.unknown import Unknown

_COMPARE = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}

_PLAIN = {
    "sadd.s32": "({0} + {1}) & 0xffffffff",
    "sadd.u32": "({0} + {1}) & 0xffffffff",
    "ssub.s32": "({0} - {1}) & 0xffffffff",
    "ssub.u32": "({0} - {1}) & 0xffffffff",
    "sor.u32": "note({0}, {1}, 'fixed') or ({0} | {1})",
    "sxor.u32": "note({0}, {1}, 'fixed') or ({0} ^ {1})",
    "smul.u32": "note({0}, {1}, 'product') or ({0} * {1}) & 0xffffffff",
    "smul.s32": "note({0}, {1}, 'product') or ({0} * {1}) & 0xffffffff",
    "sand.u32": "note({0}, {1}, 'mask') or ({0} & {1})",
    "sshll.u32": "note({0}, {1}, 'left') or ({0} << ({1} & 63)) & 0xffffffff",
    "sshrl.u32": "note({0}, {1}, 'right') or ({0} >> ({1} & 63))",
    "sshra.s32": "note({0}, {1}, 'right') or (signed({0}) >> ({1} & 63)) & 0xffffffff",
    "smov": "{0}",
    "scalar_select": "choose({0}, {1}, {2})",
    "smin.u32": "choose(note({0}, {1}, '<') or {0} < {1}, {0}, {1})",
    "smax.u32": "choose(note({0}, {1}, '<') or {0} < {1}, {1}, {0})",
    "smin.s32": "choose(less({0}, {1}, note), {0}, {1})",
    "smax.s32": "choose(less({0}, {1}, note), {1}, {0})",
    "pmov": "({0} != 0)",
    "pneg": "({0} ^ True)",
    "pand": "({0} & {1})",
    "por": "({0} | {1})",
    "pxor": "({0} ^ {1})",
    "pnand": "(({0} & {1}) ^ True)",
    "pnor": "(({0} | {1}) ^ True)",
    "sld": "load({0})",
}


def expression(each: Instruction, operands: list[str]) -> str:
    """The value of a scalar instruction; unknown where its opcode is not executed."""
    opcode = each.opcode
    if opcode.startswith("scalar_lea"):
        return f"({' + '.join(operands)}) & 0xffffffff"
    if opcode.startswith("scmp."):
        return _compare(opcode, operands)
    if opcode in _PLAIN and len(operands) >= _arity(_PLAIN[opcode]):
        return "(" + _PLAIN[opcode].format(*operands) + ")"
    return f"Unknown('the result of {opcode} in line {each.line}')"


def _arity(text: str) -> int:
    return 1 + max(int(c) for c in "012" if f"{{{c}}}" in text)


def _compare(opcode: str, operands: list[str]) -> str:
    _, relation, kind, *_ = opcode.split(".")
    if kind not in ("s32", "u32"):
        return f"Unknown('the result of {opcode}')"
    sign = _COMPARE[relation]
    left, right = operands
    if kind == "s32":
        left, right = f"signed({left})", f"signed({right})"
    return f"(note({left}, {right}, '{sign}') or ({left} {sign} {right}))"


def _signed(word: Any) -> Any:
    return (word ^ 0x80000000) - 0x80000000


def _choose(condition: Any, yes: Any, no: Any) -> Any:
    return condition if isinstance(condition, Unknown) else yes if condition else no


def _less(left: Any, right: Any, note: Callable[..., bool]) -> Any:
    left, right = _signed(left), _signed(right)
    return note(left, right, "<") or left < right


HELPERS: dict[str, Any] = {
    "signed": _signed,
    "choose": _choose,
    "less": _less,
}
