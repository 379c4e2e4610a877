"""The buffers that the legality check counts are those that the kernels ask for."""

from collections import Counter

import pytest

import moegen
from backends.chips import CHIPS
from backends.tpu.kernel_ops import (
    combine_kernels,
    grouped_kernels,
    router_kernels,
)
from bench.pallas_calls import pallas_calls
from moegen.layers import find_layer

SIZES = {"tokens": 256, "model": 256, "hidden": 512, "experts": 8}
CASES = [
    ("mixtral", "tpu-v5e", "bfloat16", {}),
    ("mixtral", "tpu-v4", "float32", {"tile_rows": 64, "grouped_rows.fetches": False}),
    ("glam", "tpu-v5p", "bfloat16", {"block_inner": 128, "block_right": 128}),
    ("deepseek", "tpu7x", "bfloat16", {"chunk_rows": 32, "block_columns": 256}),
    (
        "mixtral",
        "tpu-v6e",
        "float32",
        {"model": 200, "block_columns": 128},
    ),
    ("expert_choice", "tpu-v6e", "float32", {"step_tokens": 16}),
    ("glam", "tpu-v4", "float32", {"backward.piece": 128, "tile_tokens": 128}),
    ("gshard", "tpu-v5p", "bfloat16", {"runs": 2}),
    ("mixtral", "tpu-v5e", "bfloat16", {"experts": 256}),
]


@pytest.mark.parametrize(("layer", "chip", "dtype", "schedule"), CASES)
def test_a_kernel_asks_for_the_buffers_that_are_counted(
    layer, chip, dtype, schedule, tmp_path
):
    more = {"shared": 128, "k": 3} if layer == "deepseek" else {}
    sizes = SIZES | more | {n: s for n, s in schedule.items() if n in SIZES}
    chosen = {name: value for name, value in schedule.items() if name not in SIZES}
    op = moegen.compile(
        find_layer(layer), chip, dtype, tmp_path, schedule=chosen, **sizes
    )
    kernels = [
        *router_kernels(op.module),
        *grouped_kernels(op.module),
        *combine_kernels(op.module),
    ]
    every = pallas_calls(op).items()
    calls = {name: call for name, call in every if kinds_told(name)}
    named = {k.name: k for k in kernels if k.kind != "row_maps"}
    assert named.keys() == calls.keys()
    for name, kernel in named.items():
        counted = kernel.buffers(kernel.schedule, CHIPS[chip])
        assert asked(calls[name]) == Counter(
            (b.memory, b.shape, b.dtype, b.array, b.copies)
            for b in counted
            if b.what != "the compiler's own"
        )


def kinds_told(name):
    """Whether a kernel has a schedule of its own that is told here."""
    return name.split(".")[1] not in ("fetch_tokens", "token_words")


def asked(call):
    """(memory, shape, dtype, array, copies) of all that a traced kernel keeps."""
    grid = call.params["grid_mapping"]
    found = []
    for block in grid.block_mappings:
        memory = str(block.block_aval.memory_space)
        if memory == "any":
            continue
        shape = tuple(getattr(size, "block_size", 1) for size in block.block_shape)
        array = block.array_aval
        memory = "smem" if memory == "smem" else "vmem"
        copies = block.pipeline_mode.buffer_count if block.pipeline_mode else 2
        found.append((memory, shape, array.dtype.name, array.shape, copies))
    for scratch in grid.scratch_avals:
        if str(scratch.memory_space) == "vmem":
            inner = scratch.inner_aval
            found.append(("vmem", inner.shape, inner.dtype.name, (), 1))
    dynamic = grid.num_dynamic_grid_bounds
    for scalar in call.invars[dynamic : dynamic + grid.num_index_operands]:
        found.append(("smem", scalar.aval.shape, scalar.aval.dtype.name, (), 1))
    return Counter(found)
