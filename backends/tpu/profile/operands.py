"""What an instruction of a bundle reads: registers, literals, symbols, addresses."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class Register:
    """`%s7165_s25` is `s7165` held in `s25`; a token has no physical register."""

    virtual: str
    physical: str | None

    @property
    def name(self) -> str:
        """What the register is told apart by: the place, else the token."""
        return self.physical or self.virtual

    @property
    def registers(self) -> Iterator["Register"]:
        """Itself."""
        yield self


@dataclass(frozen=True)
class Literal:
    """A number, as written: integers are unsigned 32-bit words."""

    value: int | float

    @property
    def registers(self) -> Iterator[Register]:
        """None."""
        return iter(())


@dataclass(frozen=True)
class Symbol:
    """`#allocation5`: a place in some memory, chosen by the compiler."""

    name: str

    @property
    def registers(self) -> Iterator[Register]:
        """None."""
        return iter(())


@dataclass(frozen=True)
class Address:
    """`[vmem:[%s193_s4 + $0x2e0] sm:$0xff]`: a sum; `space` may be left out."""

    space: str
    terms: tuple["Register | Literal | Symbol", ...]
    details: str = ""

    @property
    def registers(self) -> Iterator[Register]:
        """The terms that are registers."""
        for term in self.terms:
            yield from term.registers


@dataclass(frozen=True)
class Word:
    """Anything else that stands among operands and is no value."""

    text: str

    @property
    def registers(self) -> Iterator[Register]:
        """Registers that the word mentions, such as a store mask held in one."""
        for found in re.findall(r"%\w+", self.text):
            yield _read_register(found)


Operand: TypeAlias = Register | Literal | Symbol | Address | Word

_REGISTER = re.compile(r"%(?P<virtual>\w+?)(?:_(?P<physical>(?:vm|[spv])\d+))?")
_ADDRESS = re.compile(r"\[(?P<space>[a-z]+):\[(?P<terms>[^\]]*)\](?P<details>[^\]]*)\]")
_PLACE = re.compile(r"\[(?P<terms>#[^\]]*)\](?P<details>.*)", re.DOTALL)
_SYMBOL = re.compile(r"#(allocation|argument)\d+(_spill)?")
_FLOAT = re.compile(r"-?(\d+\.\d*(e[+-]?\d+)?|\d+e[+-]?\d+|inf|nan)")
_WORD = re.compile(r"[\w.$:\[\]#%()\- /=+*\"']+")


def operand(text: str) -> Operand:
    """Parse one operand; ValueError says what is not understood."""
    text = text.strip()
    if text.startswith("%") and _REGISTER.fullmatch(text):
        return _read_register(text)
    number = _number(text)
    if number is not None:
        return Literal(number)
    match = _ADDRESS.match(text) or _PLACE.match(text)
    if match:
        return _address(match, text)
    if _WORD.fullmatch(text):
        return Word(text)
    raise ValueError(f"the operand '{text[:40]}' is not known")


def _read_register(text: str) -> Register:
    match = _REGISTER.fullmatch(text)
    if match is None:
        raise ValueError(f"the register '{text[:40]}' is not known")
    return Register(match["virtual"], match["physical"])


def _number(text: str) -> int | float | None:
    if re.fullmatch(r"\$?0x[0-9a-f]+", text):
        return int(text.lstrip("$"), 16)
    if re.fullmatch(r"-?\d+", text):
        return int(text)
    # A packed word repeats its number: `1.0|1.0`.
    first, *others = text.split("|")
    if _FLOAT.fullmatch(first) and all(each == first for each in others):
        return float(first)
    return None


def _address(match: re.Match[str], text: str) -> Operand:
    groups = match.groupdict()
    details = groups["details"].strip()
    if text[match.end() :].strip():
        raise ValueError(f"the operand '{text[:40]}' is not known")
    terms = tuple(_term(term) for term in match["terms"].split("+"))
    return Address(groups.get("space") or "", terms, details)


def _term(text: str) -> Register | Literal | Symbol:
    text = text.strip()
    if _SYMBOL.fullmatch(text):
        return Symbol(text[1:])
    if text.startswith("%"):
        return _read_register(text)
    number = _number(text)
    if not isinstance(number, int):
        raise ValueError(f"the address term '{text[:40]}' is not known")
    return Literal(number)


def split(text: str) -> list[str]:
    """Split at commas, and at spaces before an operand, that stand outside brackets."""
    parts, depth, begin = [], 0, 0
    for match in re.finditer(r"[(\[{]|[)\]}]|,|\s(?=[%\[])", text):
        char = match[0]
        depth += (char in "([{") - (char in ")]}")
        if not depth and char not in ")]}":
            parts.append(text[begin : match.start()])
            begin = match.end()
    return [part for part in (*parts, text[begin:]) if part.strip()]
