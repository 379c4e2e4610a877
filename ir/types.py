"""Tensor types as plain data, and their MLIR counterparts."""

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ir import mlir
from ir.errors import DtypeMismatch

_SHORT = {
    "float64": "f64",
    "float32": "f32",
    "bfloat16": "bf16",
    "float16": "f16",
    "float8_e4m3fn": "f8E4M3FN",
    "int64": "i64",
    "int32": "i32",
    "uint32": "ui32",
    "int8": "i8",
    "bool": "i1",
}
DTYPES = frozenset(_SHORT)
_LONG = {short: long for long, short in _SHORT.items()}
_FLOATS = frozenset({"float64", "float32", "bfloat16", "float16", "float8_e4m3fn"})

DYNAMIC = -1


@dataclass(frozen=True)
class Tensor:
    """Shape, dtype and, where the user gave one, the name of a tensor.

    A size of `DYNAMIC` is the number of rows of a block, known only when it runs.
    """

    shape: tuple[int, ...]
    dtype: str
    name: str = ""

    @property
    def is_float(self) -> bool:
        return self.dtype in _FLOATS

    def with_dtype(self, dtype: str) -> "Tensor":
        return Tensor(self.shape, dtype)

    def __str__(self) -> str:
        sizes = ",".join("rows" if n == DYNAMIC else str(n) for n in self.shape)
        text = f"{_SHORT.get(self.dtype, self.dtype)}[{sizes}]"
        return f"{self.name} {text}" if self.name else text


def to_mlir(tensor: Tensor) -> mlir.Type:
    """The ranked MLIR tensor type of `tensor`; raises `DtypeMismatch` if none."""
    if tensor.dtype not in DTYPES:
        expected = "tensors of float32, bfloat16, float16, int32, uint32, int8 or bool"
        fix = "convert with .astype to one of these"
        raise DtypeMismatch(op="a layer", expected=expected, got=tensor, fix=fix)
    sizes = "".join("?x" if n == DYNAMIC else f"{n}x" for n in tensor.shape)
    return mlir.Type.parse(f"tensor<{sizes}{_SHORT[tensor.dtype]}>", mlir.context())


def from_mlir(kind: mlir.Type, name: str = "") -> Tensor:
    """The plain description of a ranked MLIR tensor type."""
    inner = str(kind).removeprefix("tensor<").removesuffix(">").split("x")
    *sizes, dtype = inner
    shape = tuple(DYNAMIC if size == "?" else int(size) for size in sizes)
    return Tensor(shape, _LONG[dtype], name)


def to_attribute(value: Any) -> mlir.Attribute:
    """A Python bool, int, float, str, list or mapping as an MLIR attribute."""
    return mlir.Attribute.parse(_attribute_text(value), mlir.context())


def _attribute_text(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return f"{value} : i64"
        case float():
            return _float_text(value)
        case str():
            return _quoted(value)
        case list() | tuple():
            return "[" + ", ".join(map(_attribute_text, value)) + "]"
        case Mapping():
            inner = (f"{_key(k)} = {_attribute_text(v)}" for k, v in value.items())
            return "{" + ", ".join(inner) + "}"
    raise TypeError(f"no attribute for {value!r}")


def _float_text(value: float) -> str:
    if not math.isfinite(value):
        (bits,) = struct.unpack(">Q", struct.pack(">d", value))
        return f"0x{bits:016X} : f64"
    return f"{value!r} : f64" if "." in repr(value) else f"{value:.17e} : f64"


def _quoted(text: str) -> str:
    """A string of MLIR: what is not plain as bytes in hexadecimal."""
    plain = (
        chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\{byte:02X}"
        for byte in text.encode()
    )
    return '"' + "".join(plain) + '"'


def _key(name: str) -> str:
    return name if name.isascii() else _quoted(name)


def from_attribute(attribute: mlir.Attribute) -> Any:
    """The Python value of an attribute made by `to_attribute`."""
    return mlir.attribute_value(attribute)
