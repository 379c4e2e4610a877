"""Schedules that are refused before any compiler sees them, and why."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import moegen
from backends.chips import CHIPS
from backends.targets import find_target
from backends.tpu.kernel_ops import (
    combine_kernels,
    grouped_kernels,
    router_kernels,
)
from backends.tpu.legality import fits
from ir import mlir
from ir.errors import (
    IllegalSchedule,
    IndexOverflow,
    KernelTooLarge,
    UnknownScheduleField,
)
from ir.pipeline import parse_passes, run_passes
from moegen.compiler import ALL_PASSES, lower
from moegen.layers import find_layer
from moegen.trace import trace

TPUS = [chip.name for chip in CHIPS.values() if chip.kind == "tpu"]
SIZES = {"tokens": 512, "model": 256, "hidden": 768, "experts": 8}


def scheduled(layer, chip, dtype="bfloat16", choices=None, **sizes):
    module = trace(find_layer(layer), dtype, **sizes)
    return lower(module, find_target(chip), lambda name, module: None, choices or {})


@pytest.mark.parametrize(
    ("choices", "sentence"),
    [
        (
            {"tile_rows": 100},
            "mixtral_moe.py:43: the kernel forward.grouped_rows.0 cannot run on "
            "tpu-v5e with tile_rows=100: a tile is whole chunks, of 16 rows; use 64 or "
            "128",
        ),
        (
            {"chunk_rows": 48},
            "chunk_rows=48: chunks are powers of two from 16 rows on; use 32 or 64",
        ),
        (
            {"forward.grouped_rows.1.block_inner": 500},
            "mixtral_moe.py:44: the kernel forward.grouped_rows.1 cannot run on "
            "tpu-v5e with block_inner=500: blocks of what is summed must divide its "
            "width of 768; use 384 or 768",
        ),
        (
            {"grouped_sums.block_right": 96},
            "the kernel backward.grouped_sums.0 cannot run on tpu-v5e with "
            "block_right=96: its block of rows has 96 of 768 lanes, neither all nor a "
            "multiple of 128; use 128",
        ),
        (
            {"forward.grouped_rows.0.fetches": True, "block_inner": 128},
            "with block_inner=128: it fetches whole rows, of 256 columns; use 128 or "
            "256",
        ),
        (
            {"grouped_rows.1.fetches": True},
            "with fetches=true: it reads no rows of tokens that it could fetch; use "
            "false",
        ),
        (
            {"model": 257, "forward.grouped_rows.0.fetches": True},
            "with fetches=true: it fetches rows of whole lanes, 256 columns each, and "
            "not 257; use false",
        ),
        (
            {"tile_rows": 256, "window_rows": 96},
            "the kernel backward.grouped_sums.0 cannot run on tpu-v5e with "
            "window_rows=96: a tile is whole windows, of chunks of 128 rows; use 128",
        ),
        ({"fetches": 3}, "with fetches=3: it must be true or false; use false"),
        (
            {"tile_rows": True},
            "with tile_rows=true: it must be a positive whole number; use 16",
        ),
        (
            {"step_tokens": 7},
            "mixtral_moe.py:45: the kernel forward.combine_rows.0 cannot run on "
            "tpu-v5e with step_tokens=7: its 7 x 2 rows are copied 16 at a time, and "
            "must be a multiple of that; use 16",
        ),
        (
            {"step_tokens": 72, "forward.step_tokens": 64},
            "with step_tokens=72: another kernel of the layer has step_tokens=64; use "
            "64 or 128",
        ),
    ],
)
def test_a_schedule_that_kernels_cannot_run(choices, sentence):
    sizes = SIZES | {n: size for n, size in choices.items() if n in SIZES}
    chosen = {n: value for n, value in choices.items() if n not in SIZES}
    with pytest.raises(IllegalSchedule, match=re.escape(sentence)):
        scheduled("mixtral", "tpu-v5e", choices=chosen, **sizes)


@pytest.mark.parametrize(
    ("choices", "sentence"),
    [
        (
            {"router.runs": 3},
            "the kernel forward.router.0 cannot run on tpu-v5e with runs=3: runs are "
            "equal parts of its 512 tokens; use 2 or 4",
        ),
        (
            {"forward.tile_tokens": 192},
            "with tile_tokens=192: a tile is all 512 tokens of a run, or a multiple of "
            "128; use 128 or 256",
        ),
        (
            {"router.runs": 2, "tile_tokens": 512},
            "with tile_tokens=512: a run has only 256 tokens; use 256",
        ),
        (
            {"forward.router.piece": 128},
            "with piece=128: its rows, of 256 columns, are not cut; use 256",
        ),
        (
            {"backward.router.0.piece": 192},
            "the kernel backward.router.0 cannot run on tpu-v5e with piece=192: pieces "
            "fill its width of 256, with a multiple of 128 columns; use 128 or 256",
        ),
        ({"router.runs": True}, "runs=true: it must be a positive whole number; use 1"),
    ],
)
def test_a_schedule_that_routers_cannot_run(choices, sentence):
    with pytest.raises(IllegalSchedule, match=re.escape(sentence)):
        scheduled("mixtral", "tpu-v5e", choices=choices, **SIZES)


def test_runs_of_groups():
    sizes = SIZES | {"groups": 4}
    sentence = "runs=2: runs are equal parts of its 4 groups, of 128 tokens each; use 4"
    with pytest.raises(IllegalSchedule, match=sentence):
        scheduled("gshard", "tpu-v5e", choices={"runs": 2}, **sizes)


def test_too_large_a_tile_of_a_router_is_told():
    choices = {"router.tile_tokens": 16384}
    sizes = SIZES | {"tokens": 32768, "model": 1024}
    with pytest.raises(KernelTooLarge) as raised:
        scheduled("mixtral", "tpu-v4", choices=choices, **sizes)
    told = str(raised.value)
    assert "the kernel forward.router.0 needs 64.59 MiB" in told
    assert "its largest buffer is the rows of tokens, 2 x bfloat16[1, 16384" in told
    assert told.endswith("tile_tokens=3584 would fit")


def test_what_a_router_leaves_open_follows_the_choice():
    choices = {"backward.router.piece": 128, "forward.tile_tokens": 512}
    module = scheduled("mixtral", "tpu-v4", choices=choices, **SIZES)
    held = {kernel.name: kernel.schedule for kernel in router_kernels(module)}
    # All tokens in one tile are one run, though two cores could share them.
    assert held["forward.router.0"] == {"tile_tokens": 512, "piece": 256, "runs": 1}
    assert held["backward.router.0"]["piece"] == 128


def test_too_large_a_tile_names_need_limit_and_largest_buffer():
    choices = {"tile_rows": 8192, "forward.grouped_rows.0.block_columns": 768}
    with pytest.raises(KernelTooLarge) as raised:
        scheduled("mixtral", "tpu-v4", choices=choices, **SIZES)
    assert str(raised.value) == (
        "mixtral_moe.py:43: the kernel forward.grouped_rows.0 needs 33.54 MiB of VMEM "
        "on tpu-v4, and can have 14.4 MiB, with block_columns=768, block_inner=256, "
        "chunk_rows=128, fetches=true, rows_stay=false, tile_rows=8192; its largest "
        "buffer is the results, 2 x bfloat16[8192, 768], 24 MiB: tile_rows=2048 or "
        "block_columns=128 would fit"
    )


def test_too_many_tiles_for_the_memory_of_scalars():
    sizes = SIZES | {"tokens": 2**20, "k": 2}
    with pytest.raises(KernelTooLarge, match=r"needs 1\.\d+ MiB of scalar memory"):
        scheduled("mixtral", "tpu-v5e", choices={"tile_rows": 16}, **sizes)


def test_indices_of_the_first_step_may_be_held_once():
    """libtpu compiles 4 windows of 256 KiB where 1 MiB less 512 bytes are to be had."""
    sizes = SIZES | {"tokens": 2**15, "hidden": 384, "k": 8}
    scheduled("mixtral", "tpu-v5e", choices={"step_tokens": 8192}, **sizes)
    with pytest.raises(KernelTooLarge, match=r"scalar memory \(SMEM\)"):
        scheduled("mixtral", "tpu-v5e", choices={"step_tokens": 12288}, **sizes)


def test_no_kernel_has_that_field():
    with pytest.raises(UnknownScheduleField, match=r"sets 'rows\.tile', and no kernel"):
        scheduled("mixtral", "tpu-v5e", choices={"rows.tile": 128}, **SIZES)


@pytest.mark.parametrize(
    ("tokens", "sentence"),
    [
        (2**27 - 2**17, ""),
        (2**27 - 2**10, "the places for rows by the kernel forward.grouped_rows.0"),
        (2**31, "mixtral_moe.py:41: the 2,147,483,648 x 16 choices"),
    ],
)
def test_what_kernels_number_stays_within_int32(tokens, sentence):
    """2^27 tokens of 16 choices are 2^31 rows; shapes only, nothing is allocated."""
    sizes = {"tokens": tokens, "model": 8, "hidden": 8, "experts": 16, "k": 16}
    choices = {"tile_rows": 2**15}
    if not sentence:
        scheduled("mixtral", "tpu-v5e", choices=choices, **sizes)
        return
    with pytest.raises(IndexOverflow, match=f"{sentence}.* end at 2,147,483,647"):
        scheduled("mixtral", "tpu-v5e", choices=choices, **sizes)


def test_printed_ir_with_another_schedule_is_checked_and_kept():
    module = scheduled("mixtral", "tpu-v5e", **SIZES)
    text = mlir.print_module(module)
    (tile,) = set(re.findall(r"tile_rows = (\d+)", text))
    again = "schedule{target=tpu-v5e}"
    for other, legal in (("64", True), ("40", False)):
        changed = text.replace(f"tile_rows = {tile}", f"tile_rows = {other}")
        changed = changed.replace("chunk_rows = 128", "chunk_rows = 64")
        changed = re.sub(r"window_rows = \d+", f"window_rows = {other}", changed)
        passes = parse_passes(again, ALL_PASSES)
        if legal:
            kept = run_passes(mlir.parse(changed), passes, lambda name, module: None)
            assert mlir.print_module(kept) == changed
            continue
        with pytest.raises(
            IllegalSchedule, match=r"mixtral_moe\.py:43: .*tile_rows=40"
        ):
            run_passes(mlir.parse(changed), passes, lambda name, module: None)


def test_what_is_not_chosen_follows_the_choice(tmp_path):
    layer = find_layer("mixtral")
    choices = {"tile_rows": 192, "grouped_rows.block_columns": 128}
    op = moegen.compile(
        layer, "tpu-v5e", "bfloat16", tmp_path, schedule=choices, **SIZES
    )
    for kernel in grouped_kernels(op.module):
        assert kernel.schedule["tile_rows"] == 192
        assert kernel.schedule["chunk_rows"] == 64
        if kernel.kind == "grouped_rows":
            assert kernel.schedule["block_columns"] == 128
    assert "TILE_ROWS = 192" in op.emitted.beside["row_plan.py"]


def around(tiles):
    return [size for tile in tiles for size in (tile - 1, tile, tile + 1)]


WIDTHS = st.sampled_from([1, *around([8, 16, 128, 256, 1024, 2880])])
EXPERTS = st.sampled_from([1, *around([8, 64])])
TOKENS = st.sampled_from([1, *around([16, 128, 1024, 65536])])


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    layer=st.sampled_from(["hash", "mixtral", "expert_choice"]),
    chip=st.sampled_from(TPUS),
    dtype=st.sampled_from(["float32", "bfloat16"]),
    sizes=st.tuples(TOKENS, WIDTHS, WIDTHS, EXPERTS),
)
def test_a_default_is_legal_for_its_own_shape_on_its_own_chip(
    layer, chip, dtype, sizes
):
    tokens, model, hidden, experts = sizes
    choices = {"mixtral": {"k": min(8, experts)}}.get(layer, {})
    module = scheduled(
        layer,
        chip,
        dtype,
        tokens=max(tokens, experts),
        model=model,
        hidden=hidden,
        experts=experts,
        **choices,
    )
    grouped, combines = grouped_kernels(module), combine_kernels(module)
    kernels = [*router_kernels(module), *grouped, *combines]
    assert grouped
    for kernel in kernels:
        if kernel.schedule:
            assert fits(kernel, kernel.schedule, CHIPS[chip])
