"""From the compiler's message to a class of outcome, a sentence and its numbers."""

import re
import signal
from typing import Any

from backends.tpu.compile.job import Kind

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_SIZE = r"[\d.]+[KMGT]?"

# The four ways in which libtpu says that a memory is full.
_FULL = tuple(
    re.compile(pattern, re.DOTALL)
    for pattern in (
        r"in memory space (?P<memory>\w+) while allocating.*?Scoped allocation with "
        rf"size (?P<need>{_SIZE}) and limit (?P<limit>{_SIZE})",
        r"Allocation \(size=(?P<need>\d+)\) would exceed memory \(size=(?P<limit>\d+)\)"
        r".*?space=(?P<memory>\w+)(?:.*?tag = '(?P<what>[^'.]+))?",
        rf"in memory space (?P<memory>\w+)\. Used (?P<need>{_SIZE}) of "
        rf"(?P<limit>{_SIZE})(?:.*?Tag: (?P<what>[^\n.]+))?",
        r"out of memory on (?P<memory>HBM).*?required for [\w ]+ "
        rf"\((?P<need>{_SIZE})\) exceeds available HBM \((?P<limit>{_SIZE})\)",
    )
)

_NOISE = tuple(
    re.compile(pattern)
    for pattern in (
        r"^[A-Z_]{5,}: ",
        r"^Mosaic failed to compile TPU kernel(?: with MLIR module name `[^`]*`)?"
        r"(?: HLO name `[^`]*`)?: ",
        r"^E\d{4}: (?:\w+:)?\s*",
        r"\bSee (?:details at )?https?://\S+(?: for more details)?\.?",
        r",? (?:and )?index_map \{[^}]*\}",
        r"\bPlease (?:file an issue|report a bug)[^\n]*",
    )
)
_OPERATION = re.compile(
    r"\n\s*The MLIR operation involved:\n[^\n]*?\"(?P<op>[\w.]+)\"[^\n]*?"
    r"(?: : (?P<types>\([^\n]*))?(?:\n.*|)$",
    re.DOTALL,
)
_LONGEST = 400
_FATAL = re.compile(
    r"^(?:F\d{4} [\d:.]+ +\d+ |Fatal Python error: |ERROR: )(.+)$", re.MULTILINE
)


def classify(error: str, text: str) -> dict[str, Any]:
    """Fields of an `Outcome` for an exception of class name `error` that says `text`.

    Sizes become bytes: libtpu's K, M, G and T are powers of 1024.
    """
    if error == "MemoryError":
        reason = "the compiler ran out of memory of the host"
        return {"kind": Kind.CRASHED, "reason": reason}
    if "RESOURCE_EXHAUSTED" not in text:
        return {"kind": Kind.ILLEGAL, "reason": sentence(error, text)}
    matches = (pattern.search(text) for pattern in _FULL)
    match = next((match for match in matches if match), None)
    if match is None:
        return {"kind": Kind.OUT_OF_MEMORY, "reason": sentence(error, text)}
    return _out_of_memory(match.groupdict())


def _out_of_memory(found: dict[str, str | None]) -> dict[str, Any]:
    need, limit = (_bytes(found[name] or "") for name in ("need", "limit"))
    memory = (found["memory"] or "").lower()
    what = found.get("what")
    largest = f"; the largest buffer is: {what.strip()}" if what else ""
    reason = f"it needs {_readable(need)} of {memory}, and has {_readable(limit)}"
    return {
        "kind": Kind.OUT_OF_MEMORY,
        "reason": reason + largest,
        "memory": memory,
        "need": need,
        "limit": limit,
    }


def _bytes(size: str) -> int:
    number = size.rstrip("KMGT")
    return round(float(number) * _UNITS[size[len(number) :]])


def _readable(size: int) -> str:
    for unit, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if size >= unit:
            return f"{size / unit:.4g} {name}"
    return f"{size} bytes"


def sentence(error: str, text: str) -> str:
    """What an exception says, in one line, without codes, links and requests."""
    operation = _OPERATION.search(text)
    said = text[: operation.start()] if operation else text
    for pattern in _NOISE:
        said = pattern.sub("", said)
    said = " ".join(said.split()).rstrip(" .:-")
    if not said:
        return f"{error} without a message"
    # A word or two need the error's name to be understood: KeyError: 'x'.
    if len(said.split()) < 3:
        said = f"{error}: {said}"
    if operation:
        said += f" ({operation['op']}{_types(operation['types'])})"
    return said if len(said) <= _LONGEST else said[: _LONGEST - 1] + "…"


def _types(types: str | None) -> str:
    return f" : {types.strip()}" if types else ""


def death(code: int, log: str) -> str:
    """Why a process ended, from its exit code (minus a signal) and its last words."""
    fatal: list[str] = _FATAL.findall(log)
    ended = f"exit code {code}"
    if code < 0:
        held = {number.value: number.name for number in signal.Signals}
        ended = held.get(-code, f"signal {-code}")
    reason = f"the compiler's process ended with {ended}"
    return f"{reason}: {fatal[-1].strip()[:_LONGEST]}" if fatal else reason
