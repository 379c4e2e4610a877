"""A TOML file as typed settings: overrides from the command line, unknown keys refused.

A section is a frozen dataclass; its fields are the keys, their types and defaults.
"""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_type_hints

from ir.errors import BadArgument, nearest

Section = TypeVar("Section")
Table = dict[str, Any]

_TITLES = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text in quotes",
}


def read_toml(path: Path) -> Table:
    """The tables of a file; raises `BadArgument`, `OSError` if it cannot be opened."""
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8"))
    except UnicodeDecodeError as error:
        reason = (
            f"{path} is not UTF-8 text: byte {error.start} is not; save it as UTF-8"
        )
    except tomllib.TOMLDecodeError as error:
        reason = f"{path} is not TOML: {error}"
    raise BadArgument(reason=reason)


def override(table: Table, assignments: Iterable[str]) -> Table:
    """`table` with each SECTION.KEY=VALUE put in; a VALUE is TOML, or else a text."""
    made = {
        name: dict(part) if isinstance(part, dict) else part
        for name, part in table.items()
    }
    for told in assignments:
        key, equals, value = told.partition("=")
        section, dot, name = key.strip().partition(".")
        if not (equals and dot and section and name):
            raise BadArgument(
                reason=f"--set {told}: write SECTION.KEY=VALUE, as in train.steps=50"
            )
        part = made.setdefault(section, {})
        if not isinstance(part, dict):
            raise BadArgument(reason=f"--set {told}: '{section}' is not a section")
        part[name] = _value(value.strip())
    return made


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def check_names(where: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Refuse the first name that is not known, with the nearest that is."""
    known = list(known)
    for name in given:
        if name not in known:
            close = nearest(name, known)
            listed = ", ".join(known)
            raise BadArgument(reason=f"{where} has no '{name}'; it has {listed}{close}")


def section(cls: type[Section], table: Any, name: str, where: str) -> Section:
    """The section [`name`] of the file `where` as a `cls`.

    Raises `BadArgument` for a key that is unknown or missing, or of another type.
    """
    title = f"{where}: [{name}]"
    if not isinstance(table, Mapping):
        raise BadArgument(reason=f"{title} must be a section, not {table!r}")
    known: Any = fields(cls)  # type: ignore[arg-type]
    check_names(title, table, [field.name for field in known])
    needed = [f.name for f in known if f.default is f.default_factory is MISSING]
    missing = [field for field in needed if field not in table]
    if missing:
        raise BadArgument(
            reason=f"{title} needs {', '.join(missing)}: add what is missing"
        )
    types = get_type_hints(cls)
    return cls(
        **{
            key: _typed(f"{where}: {name}.{key}", value, types[key])
            for key, value in table.items()
        }
    )


def _typed(where: str, value: Any, kind: Any) -> Any:
    """The value as the type of its field; a whole number will do for a number."""
    kinds = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    kinds = tuple(one for one in kinds if one is not NoneType)
    if type(value) in kinds:
        return value
    if type(value) is int and float in kinds:
        return float(value)
    titles = " or ".join(_TITLES.get(one, str(one)) for one in kinds)
    raise BadArgument(reason=f"{where} = {value!r} must be {titles}")
