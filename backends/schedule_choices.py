"""What a user sets of a schedule: fields of kernels, by name.

A choice is `[KERNEL.]FIELD=VALUE`. KERNEL is a kernel's name as `moegen inspect` prints
it, `forward.grouped_rows.0`, or some of its parts: `grouped_rows` are all of that kind,
`backward` all of that function. Of two choices the one with more parts counts.
"""

from collections.abc import Mapping
from typing import Any

from ir.errors import BadArgument

Choices = Mapping[str, int | bool]
NO_CHOICES: Choices = {}


def read_choice(text: str) -> tuple[str, int | bool]:
    """`"grouped_rows.tile_rows=256"` as a name and a value; raises `BadArgument`."""
    name, found, value = text.partition("=")
    if value in ("true", "false"):
        return name, value == "true"
    if not found or not name or not value.isdecimal():
        reason = (
            f"a choice of a schedule is [KERNEL.]FIELD=VALUE, such as "
            f"grouped_rows.tile_rows=256 or fetches=false, and got '{text}'"
        )
        raise BadArgument(reason=reason)
    return name, int(value)


def require_choices(choices: Any) -> Choices:
    """The choices, if they are a mapping of names to numbers; or `BadArgument`."""
    if isinstance(choices, Mapping) and all(
        isinstance(name, str) and isinstance(value, int)
        for name, value in choices.items()
    ):
        return choices
    reason = (
        "schedule takes fields by name, such as {'grouped_rows.tile_rows': 256}, with "
        f"whole numbers or booleans, and got {choices!r}"
    )
    raise BadArgument(reason=reason)


def read_choices(text: str) -> dict[str, int | bool]:
    """Choices that are separated by semicolons, as a pass' option holds them."""
    return dict(read_choice(item) for item in text.split(";") if item)


def write_choices(choices: Choices) -> str:
    """The text that `read_choices` reads."""
    return ";".join(f"{name}={_text(value)}" for name, value in choices.items())


def chosen_fields(
    kernel: str, fields: tuple[str, ...], choices: Choices
) -> dict[str, Any]:
    """What the choices say of a kernel's fields."""
    found = {}
    for name in sorted(choices, key=lambda name: name.count(".")):
        *parts, field = name.split(".")
        if field in fields and _within(parts, kernel):
            found[field] = choices[name]
    return found


def unused_choices(
    kernels: Mapping[str, tuple[str, ...]], choices: Choices
) -> list[str]:
    """The choices that no kernel follows; `kernels` are names and their fields."""
    return [
        name
        for name in choices
        if not any(chosen_fields(k, f, {name: True}) for k, f in kernels.items())
    ]


def _within(parts: list[str], kernel: str) -> bool:
    """Whether the parts occur in the kernel's name, in that order."""
    rest = iter(kernel.split("."))
    return all(part in rest for part in parts)


def _text(value: int | bool) -> str:
    return str(value).lower()
