"""Regions over scalars as Python text."""

from dataclasses import dataclass

import numpy as np

from ir import mlir
from ir.scalar_ops import BY_DIRECTION, BY_OP
from ir.types import from_attribute, from_mlir

ATOM = 9


@dataclass(frozen=True)
class Text:
    """An expression, and how tightly its outermost operator binds (see ScalarOp)."""

    text: str
    binding: int = ATOM

    def within(self, binding: int) -> str:
        """The text as an operand of an operator, in brackets where it binds looser."""
        return self.text if self.binding > binding else f"({self.text})"


def scalar_ops(region: mlir.Region) -> int:
    """How many ops a region has, constants and the yield aside."""
    names = [op.operation.name for op in region.blocks[0].operations]
    return sum(n not in ("stablehlo.constant", "moe.yield") for n in names)


def expression(region: mlir.Region, operands: list[Text]) -> list[Text]:
    """What a region yields, as nested expressions of its operands."""
    block = region.blocks[0]
    values = dict(zip(block.arguments, operands, strict=True))
    *body, last = list(block.operations)
    for op in body:
        values[op.operation.results[0]] = op_text(
            op, [values[v] for v in op.operation.operands]
        )
    return [values[v] for v in last.operation.operands]


def statements(region: mlir.Region, names: list[str]) -> tuple[list[str], list[Text]]:
    """A region as assignments, for values used twice or long, and its results."""
    block = region.blocks[0]
    values = {a: Text(n) for a, n in zip(block.arguments, names, strict=True)}
    *body, last = list(block.operations)
    lines: list[str] = []
    for op in body:
        result = op.operation.results[0]
        text = op_text(op, [values[v] for v in op.operation.operands])
        uses = len(list(result.uses))
        if op.operation.name != "stablehlo.constant" and (
            uses > 1 or len(text.text) > 40
        ):
            name = f"t{len(lines)}"
            lines.append(f"{name} = {text.text}")
            text = Text(name)
        values[result] = text
    return lines, [values[v] for v in last.operation.operands]


def unpacked(texts: list[Text]) -> str:
    """Several results as the right side of an assignment: one call, or a tuple."""
    call = texts[0].text.removesuffix("[0]")
    if call != texts[0].text and texts[1].text == f"{call}[1]":
        return call
    return ", ".join(text.text for text in texts)


def op_text(op: mlir.OpView, operands: list[Text]) -> Text:
    """One scalar op as an expression."""
    name = op.operation.name
    facts = mlir.attributes(op)
    plain = [operand.text for operand in operands]
    kind = from_mlir(op.operation.results[0].type)
    if name == "stablehlo.constant":
        literal = number(from_attribute(facts["value"]), kind.dtype)
        return Text(literal, 8 if literal.startswith("-") else ATOM)
    if name == "stablehlo.divide" and not kind.is_float:
        return Text(f"lax.div({', '.join(plain)})")
    if name == "stablehlo.compare":
        direction = str(facts["comparison_direction"]).split()[-1].rstrip(">")
        inner = [operand.within(1) for operand in operands]
        return Text(BY_DIRECTION[direction][2].format(*inner), 1)
    if name == "stablehlo.select":
        return Text(f"jnp.where({', '.join(plain)})")
    if name == "stablehlo.clamp":
        return Text(f"jnp.clip({plain[1]}, {plain[0]}, {plain[2]})")
    if name == "stablehlo.convert" and plain[0].lstrip("-")[:1].isdigit():
        return Text(f"jnp.{dtype_text(kind.dtype)}({plain[0]})")
    if name == "stablehlo.convert":
        return Text(f"{operands[0].within(8)}.astype(jnp.{dtype_text(kind.dtype)})")
    row = BY_OP[name]
    if row.binding == ATOM and row.python.startswith(("jnp.", "lax.")):
        return Text(row.python.format(*plain))
    inner = [
        operand.within(row.binding - (i == 0)) for i, operand in enumerate(operands)
    ]
    return Text(row.python.format(*inner), row.binding)


def dtype_text(dtype: str) -> str:
    return "bool_" if dtype == "bool" else dtype


def number(value: object, dtype: str) -> str:
    """A literal, as short as its dtype allows; infinities and NaN by name."""
    if not isinstance(value, float):
        return str(value)
    short = repr(value) if dtype == "float64" else str(np.float32(value))
    if short in ("inf", "-inf", "nan"):
        return short.replace("inf", "jnp.inf").replace("nan", "jnp.nan")
    return short if any(c in short for c in ".e") else f"{short}.0"
