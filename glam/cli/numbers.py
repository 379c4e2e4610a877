"""Lists of whole numbers on the command line."""

from ir.errors import BadArgument


def whole_numbers(option: str, text: str, least: int, example: str) -> list[int]:
    """The numbers of a list such as 8,16,32, each once; raises `BadArgument`."""
    parts = [part.strip() for part in text.split(",")]
    wrong = [part for part in parts if not part.isdecimal() or int(part) < least]
    if wrong:
        raise BadArgument(
            reason=f"{option} {text}: '{wrong[0]}' is no whole number of at least "
            f"{least}; write one, or several as {example}"
        )
    return list(dict.fromkeys(map(int, parts)))
