"""The scalar core, executed for real: one Python function for each segment.

Trip counts, predicates, addresses and DMA sizes follow from the instructions, so
nothing about the grid need be known. A bundle reads before it writes; a function's
lines are its bundles, each one tuple assignment.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from backends.tpu.profile.bundles import Bundle, Instruction, Predicate, Program
from backends.tpu.profile.expressions import HELPERS, expression
from backends.tpu.profile.operands import Address, Literal, Operand, Register, Symbol
from backends.tpu.profile.segments import Segment, is_meeting, is_start, is_wait
from backends.tpu.profile.unknown import Unknown
from ir.errors import UnknownScalar

# What a segment leaves behind: events in order, a bit for each guarded timed
# instruction, and for each branch whether it is taken.
Outcome: TypeAlias = tuple[list[tuple[Any, ...]], tuple[bool, ...], tuple[bool, ...]]

# Apart enough for any allocation, and low enough that an address may be shifted left.
_SPACING = 1 << 20
_BELOW = 1 << 12
_WORD = 0xFFFFFFFF


@dataclass
class Memory:
    """Scalar memory; symbols lie far apart, in order of use.

    `words` are those that the kernel stored, `given` those that the caller supplied;
    `filled` counts the copies of the latter.
    """

    words: dict[int, Any] = field(default_factory=dict)
    given: dict[int, int] = field(default_factory=dict)
    filled: int = 0
    symbols: dict[str, int] = field(default_factory=dict)
    supplied: dict[str, list[int]] = field(default_factory=dict)

    def place(self, symbol: str) -> int:
        """The symbol's address, in words."""
        if symbol not in self.symbols:
            self.symbols[symbol] = _BELOW + (len(self.symbols) % 1024) * _SPACING
            self._fill(symbol)
        return self.symbols[symbol]

    def _fill(self, symbol: str) -> None:
        base = self.symbols[symbol]
        for index, value in enumerate(self.supplied.get(symbol, ())):
            self.given[base + index] = value & _WORD

    def fill(self, source: Any, target: int, words: int) -> None:
        """Copy what was supplied for the argument at `source` into scalar memory.

        Where nothing was, what lay there becomes unknown.
        """
        given = self.supplied.get(self._argument_at(source), [])
        self.filled += 1
        for index in range(words):
            self.words.pop(target + index, None)
            self.given.pop(target + index, None)
        for index, value in enumerate(given[:words]):
            self.given[target + index] = value & _WORD

    def _argument_at(self, address: Any) -> str:
        if isinstance(address, Unknown):
            return ""
        names = (name for name in self.symbols if name.startswith("argument"))
        for name in names:
            base = self.symbols[name]
            if any((base << shift) & _WORD == address for shift in range(10)):
                return name
        return ""

    def load(self, address: Any) -> Any:
        """The word there; unknown where nothing was stored."""
        if isinstance(address, Unknown):
            return address
        if address in self.words:
            return self.words[address]
        if address in self.given:
            return self.given[address]
        return Unknown(f"scalar memory {self.name(address)}")

    def straight(self, address: int, word: int, by: int, rise: int, most: int) -> int:
        """How many more words, `by` apart, each are `rise` above the one before.

        Counted from `word` at `address`, at most `most`, and among the supplied ones.
        """
        count = 0
        while count < most:
            address, word = address + by, (word + rise) & _WORD
            if address in self.words or self.given.get(address) != word:
                break
            count += 1
        return count

    def store(self, address: Any, value: Any) -> None:
        """Keep a word."""
        if isinstance(address, Unknown):
            raise UnknownScalar(use="a store's address", origin=address.origin)
        self.words[address] = value

    def name(self, address: int) -> str:
        """`#allocation5 + 3` for an address."""
        for symbol, base in self.symbols.items():
            if 0 <= address - base < _SPACING - _BELOW:
                return f"#{symbol} + {address - base}"
        return f"{address:#x}"


class Registers(dict[str, Any]):
    """Registers by name; one that was never written is unknown."""

    def __missing__(self, name: str) -> Unknown:
        return Unknown(f"the register {name}")


class Machine:
    """Registers, scalar memory, and the compiled segments."""

    def __init__(self, program: Program, scalars: dict[str, list[int]]) -> None:
        self.program = program
        self.memory = Memory(supplied=scalars)
        self.registers = Registers()
        self.record: list[tuple[Any, Any, str]] = []
        self.arguments: dict[int, str] = {}
        self.divided: dict[str, list[Any]] = {}
        self.checks = {
            each.predicate.register.name
            for each in program.instructions
            if each.opcode.startswith("shalt") and each.predicate
        }
        self._compiled: dict[Segment, Callable[[], Outcome]] = {}

    def run(self, segment: Segment) -> Outcome:
        """Execute the segment's scalar instructions."""
        if segment not in self._compiled:
            self._compiled[segment] = self._compile(segment)
        return self._compiled[segment]()

    def _compile(self, segment: Segment) -> Callable[[], Outcome]:
        bundles = self.program.bundles[segment.begin : segment.end]
        body = [line for bundle in bundles for line in self._bundle(bundle)]
        names = ", ".join(
            f"b{i}" for i in range(sum(line.startswith("bits") for line in body))
        )
        taken = [f"t{place}_{target}" for place, target, _ in segment.branches]
        text = "\n ".join(
            [
                "def segment():",
                "events = []; event = events.append",
                *_numbered(body),
                f"return events, ({_tuple(names)}), ({_tuple(', '.join(taken))})",
            ]
        )
        scope = {
            "R": self.registers,
            "load": self._load,
            "store": self.memory.store,
            "note": self._note,
            "divide": self._divide,
            "pop": self._pop,
            "Unknown": Unknown,
            **HELPERS,
        }
        exec(compile(text, f"<{self.program.name}:{segment.begin:#x}>", "exec"), scope)
        made: Callable[[], Outcome] = scope["segment"]
        return made

    def _load(self, address: Any) -> Any:
        word = self.memory.load(address)
        self.record.append((address, word, "load"))
        return word

    def _note(self, left: Any, right: Any, kind: str) -> bool:
        self.record.append((left, right, kind))
        return False

    def _divide(self, token: str, left: Any, right: Any) -> None:
        """`sdivrem`: the quotient is popped first, then the remainder."""
        self._note(left, right, "divide")
        unknown = isinstance(left, Unknown) or isinstance(right, Unknown) or not right
        made = Unknown("a quotient")
        self.divided[token] = [made] * 2 if unknown else [*divmod(left, right)]

    def _pop(self, token: str) -> Any:
        held = self.divided.get(token)
        return held.pop(0) if held else Unknown(f"the result of {token}")

    def _bundle(self, bundle: Bundle) -> list[str]:
        before, places, values = [], [], []
        for each in bundle.instructions:
            if each.opcode.startswith("inlined_call_operand"):
                self._argument(each)
            before += self._effect(each, bundle.address)
            if each.results and _is_scalar(each):
                places.append(f"R['{each.results[0].name}']")
                values.append(self._value(each))
        if places:
            before.append(f"{', '.join(places)} = {', '.join(values)}")
        return before

    def _argument(self, each: Instruction) -> None:
        index = int(each.attributes.split("index: ")[1].split(",")[0])
        name = f"argument{index}"
        given = self.memory.supplied.get(name)
        if "<no memory space>" in each.attributes and given:
            self.arguments[index] = str(given[0] & _WORD)
        elif "<no memory space>" in each.attributes:
            self.arguments[index] = f"Unknown('{name}, a scalar')"
        else:
            self.arguments[index] = str(self.memory.place(name))

    def _effect(self, each: Instruction, address: int) -> list[str]:
        """The line of an instruction that does more than set a scalar register."""
        opcode = each.opcode
        guard = self._guard(each.predicate)
        if each.target is not None:
            target = self.program.regions[each.target]
            return [f"t{address}_{target} = bool({guard})"]
        if opcode.startswith("sst"):
            value = self._operand(each.operands[-1])
            if each.predicate and each.predicate.register.name in self.checks:
                guard = f"({guard}) is True"  # what is told if a check fails
            return [f"if {guard}: store({self._operand(each.operands[0])}, {value})"]
        if opcode.startswith("sdivrem.u32"):
            left, right = (self._operand(o) for o in each.operands)
            return [f"if {guard}: divide('{each.results[0].name}', {left}, {right})"]
        if opcode.startswith("shalt") and each.predicate:
            # A check on values known only at run time is taken to pass.
            return [f"if ({guard}) is True: event(('halt', {each.line}))"]
        if is_meeting(opcode):
            return [f"event(('meet', {each.line}))"]
        if is_wait(opcode) or is_start(opcode) or opcode.startswith("vsync"):
            kind = opcode if not is_wait(opcode) else "wait"
            operands = ", ".join(self._operand(o) for o in each.operands)
            return [f"if {guard}: event(('{kind}', {each.line}, {operands}))"]
        if each.predicate and is_timed(each):
            return [f"bits = bool({guard})"]
        return []

    def _value(self, each: Instruction) -> str:
        if each.opcode.startswith("inlined_call_operand"):
            index = int(each.attributes.split("index: ")[1].split(",")[0])
            return self.arguments[index]
        operands = [self._operand(o) for o in each.operands]
        if each.opcode == "spop.drf" and isinstance(each.operands[0], Register):
            value = f"pop('{each.operands[0].name}')"
        else:
            value = expression(each, operands)
        if not each.predicate:
            return value
        other = self._operand(each.old if each.old is not None else each.results[0])
        guard = self._guard(each.predicate)
        unless = f"{other} if {guard} is False else {guard}"
        return f"({value} if {guard} is True else {unless})"

    def _guard(self, predicate: Predicate | None) -> str:
        if predicate is None:
            return "True"
        text = self._operand(predicate.register)
        return f"({text} ^ True)" if predicate.negated else text

    def _operand(self, operand: Operand) -> str:
        if isinstance(operand, Literal):
            value = operand.value
            return str(value) if isinstance(value, int) else "Unknown('a float')"
        if isinstance(operand, Symbol):
            return str(self.memory.place(operand.name))
        if isinstance(operand, Register):
            return f"R['{operand.name}']" if operand.physical else "None"
        if isinstance(operand, Address):
            return f"({' + '.join(self._operand(term) for term in operand.terms)})"
        return repr(operand.text)


def is_timed(each: Instruction) -> bool:
    """Whether the instruction matters to the timing beyond its bundle's slot."""
    opcode = each.opcode
    if is_meeting(opcode) or opcode.startswith(("vsync", "vtrace", "vdelay", "vphi")):
        return False
    return opcode.startswith(("v", "cld", "cst", "sld", "spop"))


def _is_scalar(each: Instruction) -> bool:
    name = each.results[0].physical or ""
    return name[:1] in ("s", "p") and not each.opcode.startswith(("sphi", "int_to_ptr"))


def _numbered(body: list[str]) -> list[str]:
    count, lines = 0, []
    for line in body:
        if line.startswith("bits"):
            line, count = f"b{count}{line[4:]}", count + 1
        lines.append(line)
    return lines


def _tuple(names: str) -> str:
    return f"{names}," if names else ""
