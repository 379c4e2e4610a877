"""How row spaces lie in a TPU's memory: as narrow as their products would round them.

Rows that the IR holds in float32 for bfloat16 weights are stored as bfloat16, and
widened where they are read: half the traffic. Rows that only a combine reads are
stored as words, which a DMA can fetch one by one.
"""

from collections.abc import Iterator, Mapping

from backends.tpu.schedule import LANES
from ir import mlir
from ir.kernel import product_dtype
from ir.mlir import Value
from ir.op import attributes_of, operand_types
from ir.types import Tensor, from_mlir

BYTES: Mapping[str, int] = {
    "float64": 8,
    "float32": 4,
    "int32": 4,
    "uint32": 4,
    "bfloat16": 2,
    "float16": 2,
    "int8": 1,
    "float8_e4m3fn": 1,
}


def compute_dtype(module: mlir.Operation) -> str:
    """What products by experts' matrices round to: a layer has one; else float32."""
    return next(map(product_dtype, _expert_dots(module)), "float32")


def matrix_dtype(module: mlir.Operation) -> str:
    """What experts' matrices are stored in: a layer has one; else float32."""
    dots = _expert_dots(module)
    return next((operand_types(dot)[1].dtype for dot in dots), "float32")


def _expert_dots(module: mlir.Operation) -> Iterator[mlir.OpView]:
    """Products by experts' matrices; those of routers have a dtype of their own."""
    for op in mlir.walk(module.regions[0].blocks[0]):
        if op.operation.name != "kernel.grouped_matmul":
            continue
        for inner in op.operation.regions[0].blocks[0]:
            if inner.operation.name == "kernel.dot":
                yield inner


def stored_dtype(kind: Tensor, compute: str) -> str:
    """The dtype that a row space has in memory; one number a row stays as it is."""
    narrow = compute == "bfloat16" and kind.dtype == "float32" and kind.shape[-1] > 1
    return compute if narrow else kind.dtype


def stored_bytes(kind: Tensor, compute: str) -> int:
    """Bytes of one stored element."""
    return BYTES[stored_dtype(kind, compute)]


def is_combined(value: Value) -> bool:
    """Whether combines alone read a value."""
    users = [mlir.user(use).operation.name for use in value.uses]
    return bool(users) and all(name == "kernel.combine" for name in users)


def leaves_as_words(value: Value, compute: str) -> bool:
    """Whether the kernel that makes rows packs them as words.

    They are packed where the kernel that combines them fetches them as such.
    """
    users = [mlir.user(use) for use in value.uses]
    by_kernel = all("schedule" in mlir.attributes(user) for user in users)
    return by_kernel and can_pack(value, compute, block_of(value))


def block_of(value: Value) -> int:
    """The block of columns of the kernel that makes rows; 0 if none does."""
    producer = mlir.producer(value)
    if producer is None or producer.name != "kernel.grouped_matmul":
        return 0
    schedule = attributes_of(producer.opview).get("schedule", {})
    block: int = schedule.get("block_columns", 0)
    return block


def can_pack(value: Value, compute: str, block: int) -> bool:
    """Whether rows made in blocks of columns can be packed as words.

    Rows of bfloat16 can that only a combine reads, if a block is whole groups of words.
    """
    kind = from_mlir(value.type)
    if block == 0 or kind.shape[-1] % block:
        return False
    pairs = kind.shape[-1] % (2 * LANES) == 0 and block % (2 * LANES) == 0
    narrow = stored_dtype(kind, compute) == "bfloat16"
    return pairs and narrow and is_combined(value)


def can_copy(value: Value, compute: str) -> bool:
    """Whether a DMA can fetch such rows: words, or float32 in whole lanes."""
    lanes = from_mlir(value.type).shape[-1] % LANES == 0
    single = compute == "float32" and lanes
    return single or can_pack(value, compute, block_of(value))
