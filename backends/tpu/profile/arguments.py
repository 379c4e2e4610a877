"""Arguments of a function as text: `bf16[4096,2048] s32[8]`, as XLA writes types."""

import re
from dataclasses import dataclass

from ir.errors import BadArgument

DTYPES = {
    "bf16": "bfloat16",
    "f16": "float16",
    "f32": "float32",
    "f8e4m3fn": "float8_e4m3fn",
    "f8e5m2": "float8_e5m2",
    "s4": "int4",
    "s8": "int8",
    "s16": "int16",
    "s32": "int32",
    "u4": "uint4",
    "u8": "uint8",
    "u16": "uint16",
    "u32": "uint32",
    "pred": "bool",
}
_ONE = re.compile(r"([a-z]\w*)\[([\d, ]*)\]")
_LONG = {long: short for short, long in DTYPES.items()}


@dataclass(frozen=True)
class ArrayArgument:
    """An array that a function takes; `dtype` as NumPy or ml_dtypes name it."""

    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        dtype = _LONG.get(self.dtype, self.dtype)
        return f"{dtype}[{','.join(map(str, self.shape))}]"


def read_arguments(text: str) -> tuple[ArrayArgument, ...]:
    """The arguments that a text lists, with spaces between; raises `BadArgument`."""
    left = _ONE.sub(" ", text).strip()
    if left:
        reason = (
            f"--args takes types such as 'bf16[4096,2048] s32[8]' with spaces between, "
            f"and cannot read '{left.split()[0]}' in '{text}'"
        )
        raise BadArgument(reason=reason)
    return tuple(_argument(match) for match in _ONE.finditer(text))


def _argument(match: re.Match[str]) -> ArrayArgument:
    dtype = DTYPES.get(match[1], match[1] if match[1] in _LONG else "")
    if not dtype:
        known = ", ".join(DTYPES)
        reason = f"--args: {match[0]} has no known dtype; the dtypes are {known}"
        raise BadArgument(reason=reason)
    sizes = [size.strip() for size in match[2].split(",")] if match[2].strip() else []
    if not all(size.isdigit() and int(size) > 0 for size in sizes):
        reason = f"--args: the sizes of {match[0]} must be whole numbers from 1 on"
        raise BadArgument(reason=reason)
    return ArrayArgument(dtype, tuple(map(int, sizes)))
