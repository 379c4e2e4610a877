"""Estimates of a TPU's kernels: FLOPs done, bytes moved, memory, steps, roofline."""

from collections.abc import Iterator
from math import prod

from backends.chips import CHIPS, Chip
from backends.estimate import Estimate, roofline
from backends.tpu.buffers import LANES, total, whole
from backends.tpu.combined import combined_dtype
from backends.tpu.kernel_ops import (
    STEP,
    KernelOp,
    combine_kernels,
    grouped_kernels,
    router_kernels,
)
from backends.tpu.kernel_time import FLOAT32_PASSES
from backends.tpu.operands import is_token
from backends.tpu.routed_rows import expected_multiplied
from backends.tpu.router_rules import run_cores
from backends.tpu.schedule import (
    Blocks,
    Work,
    blocks_in,
    cores,
    device_share,
    gathered_bytes,
    hbm_bytes,
    read_blocks,
    tiles_of,
    windows_of,
)
from backends.tpu.storage import BYTES, stored_dtype
from backends.tpu.work import work_of
from ir import mlir
from ir.mlir import Value
from ir.op import operand_types, result_types
from ir.router_sizes import sizes_of
from ir.types import from_mlir


def estimates(module: mlir.Module, chip: str) -> dict[int, Estimate]:
    """Those of the kernels of a scheduled module, by the hashes of their ops.

    Routing is uniform.
    """
    packed: set[tuple[str, Value]] = set()
    grouped = [k for k in grouped_kernels(module) if k.kind != "row_maps"]
    running = [k for k in combine_kernels(module) if k.schedule]
    pairs = (
        *((k, _grouped(k, CHIPS[chip], packed)) for k in grouped),
        *((k, _combine(k, CHIPS[chip])) for k in running),
        *((k, _router(k, CHIPS[chip])) for k in router_kernels(module)),
    )
    return {hash(kernel.op.operation): estimate for kernel, estimate in pairs}


def plain(name: str, flops: int, moved: int, dtype: str, chip: str) -> Estimate:
    """The estimate of what XLA runs: products in a dtype, and the least bytes."""
    passes = FLOAT32_PASSES if dtype == "float32" else 1
    told = CHIPS[chip]
    seconds, bound = roofline(flops * passes, moved, told, device_share(told))
    return Estimate(name, flops, moved, seconds, bound)


def _grouped(kernel: KernelOp, chip: Chip, packed: set[tuple[str, Value]]) -> Estimate:
    assert kernel.piece
    schedule = kernel.schedule
    tile, chunk = schedule["tile_rows"], schedule["chunk_rows"]
    work = work_of(kernel.op, kernel.piece, kernel.compute)
    blocks = read_blocks(schedule)
    firsts, seconds = blocks_in(work, blocks)
    grid: tuple[int, ...]
    if kernel.kind == "grouped_rows":
        per_core = -(-tiles_of(work, tile) // cores(chip))
        between = (per_core, seconds) if blocks.stay else (seconds, per_core)
        grid = (cores(chip), *between, firsts)
        parallel = cores(chip)
    else:
        grid = (firsts, seconds, windows_of(work, tile, blocks))
        parallel = firsts * seconds
    moved = hbm_bytes(work, tile, blocks, cores(chip))
    moved += _prepared(kernel, gathered_bytes(work, tile, blocks, chip), packed)
    flops = _done(kernel, work, chunk, blocks)
    passes = FLOAT32_PASSES if kernel.compute == "float32" else 1
    return _estimate(kernel, chip, flops, flops * passes, moved, grid, parallel)


def _done(kernel: KernelOp, work: Work, chunk: int, blocks: Blocks) -> int:
    """FLOPs with the padding of rows, of blocks and of lanes."""
    firsts, seconds = blocks_in(work, blocks)
    first = firsts * whole(blocks.first, LANES)
    second = seconds * whole(blocks.second, LANES)
    rows = expected_multiplied(work.rows, work.experts, chunk)
    body = kernel.op.operation.regions[0].blocks[0].operations
    dots = sum(op.operation.name == "kernel.row_dot" for op in body)
    return int(2 * rows * second * (first * work.products + dots))


def _prepared(kernel: KernelOp, gathered: int, done: set[tuple[str, Value]]) -> int:
    """Bytes of tokens made ready, once for all kernels of a function.

    They are packed as words; `gathered` are the bytes of copying their rows, or 0 where
    the kernel fetches them.
    """
    assert kernel.piece
    function = kernel.name.split(".")[0]
    count = 0
    for argument, (_, value) in kernel.piece.arguments.items():
        if not is_token(kernel.piece, argument):
            continue
        kind = from_mlir(value.type)
        packed = 2 * kind.shape[0] * kind.shape[1] * BYTES[kind.dtype]
        words = packed if kind.dtype == "bfloat16" else 0
        for what, moved in (("rows", gathered), ("words", words)):
            if moved and (f"{function} {what}", value) not in done:
                done.add((f"{function} {what}", value))
                count += moved
    return count


def _combine(kernel: KernelOp, chip: Chip) -> Estimate:
    """Every choice's row is fetched once, and every token's is written."""
    plan, rows, *gates = operand_types(kernel.op)
    (kind,) = result_types(kernel.op)
    written = BYTES[combined_dtype(kernel.op)]
    tokens, choices = plan.shape
    step = kernel.schedule[STEP]
    steps = whole(-(-tokens // step), cores(chip))
    made = steps * step
    row = rows.shape[1] * BYTES[stored_dtype(rows, kernel.compute)]
    moved = made * choices * (row + 8 + 4 * len(gates))
    moved += made * kind.shape[1] * written
    grid = (cores(chip), steps // cores(chip))
    flops = made * choices * rows.shape[1] * (1 + len(gates))
    return _estimate(kernel, chip, flops, 0, moved, grid, cores(chip))


def _router(kernel: KernelOp, chip: Chip) -> Estimate:
    """Tiles of tokens come once; their numbers for every piece of the rows."""
    sizes, schedule = sizes_of(kernel.op), kernel.schedule
    runs, tile = schedule["runs"], schedule["tile_tokens"]
    shared = run_cores(runs, chip)
    tiles, pieces = -(-sizes.tokens // (runs * tile)), sizes.width // schedule["piece"]
    made = runs * tiles * tile
    rows = sum(width * size for width, size in sizes.rows)
    moved = made * (rows + BYTES["float32"] * sum(sizes.columns) * pieces)
    matrices = (*sizes.weights, *sizes.sums)
    moved += shared * sum(narrow * wide * size for narrow, wide, size in matrices)
    products = list(_router_products(kernel.op))
    flops = made * sum(count for count, _ in products)
    multiplied = made * sum(count * passes for count, passes in products)
    grid = shared, pieces, runs // shared, tiles
    return _estimate(kernel, chip, flops, multiplied, moved, grid, shared)


def _router_products(op: mlir.OpView) -> Iterator[tuple[int, int]]:
    """FLOPs of a token of each product, and the products of bfloat16 that make it."""
    for inner in op.operation.regions[0].blocks[0].operations:
        if inner.operation.name not in ("kernel.dot", "kernel.outer"):
            continue
        left, right = operand_types(inner)
        outer = inner.operation.name == "kernel.outer"
        area = left.shape[1] * right.shape[1] if outer else prod(right.shape)
        rounded = [kind.dtype == "bfloat16" for kind in (left, right)]
        passes = FLOAT32_PASSES // 2 if any(rounded) else FLOAT32_PASSES
        yield 2 * area, 1 if all(rounded) else passes


def _estimate(
    kernel: KernelOp,
    chip: Chip,
    flops: int,
    multiplied: int,
    moved: int,
    grid: tuple[int, ...],
    parallel: int,
) -> Estimate:
    """`multiplied` are the FLOPs of bfloat16 that products take."""
    seconds, bound = roofline(multiplied, moved, chip, device_share(chip))
    buffers = kernel.buffers(kernel.schedule, chip)
    return Estimate(
        kernel.name,
        flops,
        moved,
        seconds,
        bound,
        total(buffers, "vmem"),
        total(buffers, "smem"),
        grid,
        parallel,
    )
