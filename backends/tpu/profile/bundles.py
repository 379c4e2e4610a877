"""Reader of libtpu's `*-final_bundles.txt`: one VLIW bundle a line.

    0x62   : > { %178 = sbr.rel (%p7888_p6) target = $region28 } /* Start region 3 */

A register is printed as `%s7165_s25`, virtual name and physical register; a name
without a physical register (`%178`) is a token that links a push to its pop.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from backends.tpu.profile.operands import Operand, Register, operand, split
from ir.errors import UnreadableBundles, Where


@dataclass(frozen=True)
class Predicate:
    """The condition in front of an instruction's operands; true where it executes."""

    register: Register
    negated: bool


@dataclass(frozen=True)
class Instruction:
    """One slot of a bundle.

    `predicate` guards it. `old` is a predicated move's value where the predicate is
    false: `smov (!p, old), new`. `target` is a branch's region. `attributes` are the
    brackets and words between the opcode and its operands.
    """

    opcode: str
    results: tuple[Register, ...]
    operands: tuple[Operand, ...]
    line: int
    predicate: Predicate | None = None
    old: Operand | None = None
    target: int | None = None
    attributes: str = ""

    @property
    def registers(self) -> Iterator[Register]:
        """Every register that is read, the predicate's included."""
        if self.predicate:
            yield self.predicate.register
        for each in (*self.operands, *((self.old,) if self.old is not None else ())):
            yield from each.registers


@dataclass(frozen=True)
class Bundle:
    """What issues in one cycle. `depth` counts the loops around it."""

    address: int
    line: int
    instructions: tuple[Instruction, ...]
    labels: tuple[str, ...] = ()
    depth: int = 0
    starts: tuple[int, ...] = ()
    ends: tuple[int, ...] = ()


@dataclass(frozen=True)
class Program:
    """A kernel's bundles; `regions` maps a region to the address where it starts.

    A region that is never opened is empty and last: its address is one past the end.
    """

    name: str
    bundles: tuple[Bundle, ...]
    regions: dict[int, int]

    @property
    def instructions(self) -> Iterator[Instruction]:
        """All instructions in the order of the text."""
        for bundle in self.bundles:
            yield from bundle.instructions


_HEADER = "control target key"
_EXIT = "exit bundle"
_BLOCK_COMMENT = re.compile(r"/\*(?:(?!/\*|\*/).)*\*/", re.DOTALL)
# A strided copy says between which memories only in the comment behind it.
_GENERAL = re.compile(r"\bdma\.general\b(?=[^{};]*/\* (\w+)-to-(\w+) \*/)")
_REGION = re.compile(r"(Start/End empty|Start|End) region (\d+)")
_BUNDLE = re.compile(
    r"^\s*(?P<address>0x[0-9a-f]+|0)\s+(?P<labels>(?:[A-Z]{2}\s*:?\s*)*):?\s*"
    r"(?P<depth>>*)\s*\{(?P<body>.*)\}(?P<marks>[^{}]*)$",
    re.DOTALL,
)
_START = re.compile(r"^\s*(?:0x[0-9a-f]+|0)\s[^{]*:", re.MULTILINE)
_INSTRUCTION = re.compile(
    r"(?:(?P<results>%[^=]*?)\s*=\s*)?(?P<opcode>[a-zA-Z_][\w.\-]*)\s*(?P<rest>.*)",
    re.DOTALL,
)
_GUARD = re.compile(r"\((?P<not>!)?(?P<register>%[\w]+)(?:,\s*(?P<old>[^()]*))?\)\s*,?")
_TARGET = re.compile(r"target\s*=\s*\$region(\d+)")
_ATTRIBUTE = re.compile(r"\[[^\]]*\]\.?\w*|\(\w+\)")
# `scalar_lea.vmem %s1, 4294967288 [#allocation0]` names the place that it stays within.
_WITHIN = re.compile(r"(?<=\d)\s+\[#[^\]]*\]\s*$")


def read_bundles(text: str, name: str) -> Program:
    """Parse a dump; `name` is the file or kernel that errors name."""
    if _HEADER not in text:
        raise _unreadable(name, 1, "it has no key of control targets")
    if _EXIT not in text[text.rstrip().rfind("\n") :] and _EXIT not in text[-4000:]:
        last = text.count("\n") + 1
        raise _unreadable(name, last, "its last bundle is not the exit: it is cut off")
    plain = _without_comments(_GENERAL.sub(r"dma.\1_to_\2", text), name)
    bundles = tuple(_bundles(plain, name))
    _check_addresses(bundles, name)
    regions = {region: b.address for b in bundles for region in b.starts}
    program = Program(name, bundles, regions)
    _close_targets(program)
    return program


def _unreadable(name: str, line: int, reason: str) -> UnreadableBundles:
    return UnreadableBundles(Where(name, line), reason=" ".join(reason.split()))


def _without_comments(text: str, name: str) -> str:
    """Drop comments, innermost first; lines and region marks stay."""
    while True:
        text, count = _BLOCK_COMMENT.subn(_marks, text)
        if not count:
            break
    for mark in ("/*", "*/"):
        if mark in text:
            line = text.count("\n", 0, text.index(mark)) + 1
            raise _unreadable(name, line, f"a comment's '{mark}' has no partner")
    return text


def _marks(match: re.Match[str]) -> str:
    kept = (f"@{kind[-5:].strip()}{n}" for kind, n in _REGION.findall(match[0]))
    return " ".join(kept) + "\n" * match[0].count("\n")


def _bundles(text: str, name: str) -> Iterator[Bundle]:
    starts = [match.start() for match in _START.finditer(text)]
    if not starts:
        raise _unreadable(name, 1, "it has no bundles")
    line = text.count("\n", 0, starts[0]) + 1
    for begin, end in zip(starts, [*starts[1:], len(text)], strict=True):
        piece = text[begin:end]
        yield _bundle(piece, name, line + piece[: -len(piece.lstrip())].count("\n"))
        line += piece.count("\n")


def _bundle(text: str, name: str, line: int) -> Bundle:
    match = _BUNDLE.match(text.rstrip())
    if match is None:
        raise _unreadable(name, line, f"'{_start_of(text)}' is not a bundle")
    slots = (slot.strip() for slot in match["body"].split(";;"))
    starts, ends = _regions(match["marks"])
    return Bundle(
        address=int(match["address"], 16),
        line=line,
        instructions=tuple(_instruction(s, name, line) for s in slots if s),
        labels=tuple(re.findall("[A-Z]{2}", match["labels"])),
        depth=len(match["depth"]),
        starts=starts,
        ends=ends,
    )


def _regions(marks: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    found = re.findall(r"@(empty|Start|End)(\d+)", marks)
    starts = tuple(int(n) for kind, n in found if kind != "End")
    ends = tuple(int(n) for kind, n in found if kind != "Start")
    return starts, ends


def _instruction(text: str, name: str, line: int) -> Instruction:
    match = _INSTRUCTION.fullmatch(re.sub(r"@\w+", "", text).strip())
    if match is None:
        raise _unreadable(name, line, f"'{_start_of(text)}' is not an instruction")
    try:
        return _parts(match["results"] or "", match["opcode"], match["rest"], line)
    except (ValueError, LookupError) as error:
        raise _unreadable(name, line, f"{error} in '{_start_of(text)}'") from None


def _parts(results: str, opcode: str, rest: str, line: int) -> Instruction:
    target = _TARGET.search(rest)
    if target:
        rest = rest[: target.start()] + rest[target.end() :]
    guard = _GUARD.search(rest)
    if guard:
        rest = rest[: guard.start()] + rest[guard.end() :]
    attributes, rest = _attributes(opcode, _WITHIN.sub("", rest))
    old = guard["old"] if guard else None
    return Instruction(
        opcode=opcode,
        results=tuple(_register(part) for part in split(results)),
        operands=tuple(operand(part) for part in split(rest)),
        line=line,
        predicate=_predicate(guard) if guard else None,
        old=operand(old) if old else None,
        target=int(target[1]) if target else None,
        attributes=attributes,
    )


def _attributes(opcode: str, rest: str) -> tuple[str, str]:
    """Separate brackets that describe the instruction from those that are operands."""
    rest = rest.strip()
    found = []
    while match := _ATTRIBUTE.match(rest):
        if re.match(r"\[(?:#|[a-z]+:\[)", match[0]):
            break
        found.append(match[0])
        rest = rest[match.end() :].strip()
    if opcode.startswith(("inlined_call_operand", "inlined_call")):
        return " ".join([*found, rest]), ""
    return " ".join(found), rest


def _predicate(guard: re.Match[str]) -> Predicate:
    return Predicate(_register(guard["register"]), guard["not"] is not None)


def _register(text: str) -> Register:
    parsed = operand(text)
    if not isinstance(parsed, Register):
        raise ValueError(f"'{text}' is not a register")
    return parsed


def _check_addresses(bundles: tuple[Bundle, ...], name: str) -> None:
    for index, bundle in enumerate(bundles):
        if bundle.address != index:
            reason = f"bundle {index:#x} is missing, {bundle.address:#x} follows"
            raise _unreadable(name, bundle.line, reason)


def _close_targets(program: Program) -> None:
    ended = {region for bundle in program.bundles for region in bundle.ends}
    for each in program.instructions:
        if each.target is None or each.target in program.regions:
            continue
        if each.target in ended:
            reason = f"region {each.target} ends and never starts"
            raise _unreadable(program.name, each.line, reason)
        program.regions[each.target] = len(program.bundles)


def _start_of(text: str) -> str:
    return " ".join(text.split())[:80]
