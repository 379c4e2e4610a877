"""Line breaking of emitted text: at most 88 columns."""

import textwrap

WIDTH = 88


def fill(text: str) -> str:
    """Prose, or a constant of one long tuple or table, folded."""
    if len(text) <= WIDTH:
        return text
    if " = {" in text or " = (" in text:
        return _folded_literal(text)
    return textwrap.fill(text, WIDTH, break_long_words=False)


def _folded_literal(text: str) -> str:
    head, rest = text.split(" = ", 1)
    opening, inner, closing = rest[0], rest[1:-1], rest[-1]
    items = [f"    {item}," for item in split_top(inner)]
    return "\n".join((f"{head} = {opening}", *items, closing))


def split_top(text: str) -> list[str]:
    """Split at the commas that stand in no bracket and no string."""
    parts, depth, start, quoted = [], 0, 0, ""
    for position, char in enumerate(text):
        if quoted:
            quoted = "" if char == quoted else quoted
        elif char in "\"'":
            quoted = char
        elif char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
        elif char == "," and depth == 0:
            parts.append(text[start:position].strip())
            start = position + 1
    tail = text[start:].strip()
    return [*parts, tail] if tail else parts


def wrap_call(line: str) -> str:
    """Break a long statement inside its last outermost bracket, one level at a time."""
    if len(line) <= WIDTH:
        return line
    opened = _outer_bracket(line, first=line.lstrip().startswith("def "))
    if opened is None:
        return line
    start, end = opened
    indent = " " * (len(line) - len(line.lstrip()))
    head, inner, tail = line[: start + 1], line[start + 1 : end], line[end:]
    one = f"{indent}    {inner}"
    if len(one) <= WIDTH:
        return "\n".join((head, one, indent + tail))
    items = [wrap_call(f"{indent}    {item},") for item in split_top(inner)]
    return "\n".join((head, *items, indent + tail))


def _outer_bracket(line: str, first: bool) -> tuple[int, int] | None:
    """Where the first or last outermost bracket with something in it opens and ends."""
    depth, start, found = 0, 0, None
    for position, char in enumerate(line):
        if char in "([{":
            start = position if depth == 0 else start
            depth += 1
        elif char in ")]}":
            depth -= 1
            if depth == 0 and position - start > 1:
                found = (start, position)
                if first:
                    break
    return found
