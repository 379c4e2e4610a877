"""Whole functions: which ops run how often, how long, and how that is known."""

from dataclasses import replace
from pathlib import Path

import pytest

from backends.tpu.profile.dump import Dump, dump
from backends.tpu.profile.hlo import read_module
from backends.tpu.profile.module import BUNDLES, BYTES, ModuleProfile, profile_module
from backends.tpu.profile.routing import Routing
from ir.errors import DumpFailed

_FILE = Path(__file__).with_name("ragged.py")
_ARGS = ("f32[4096,128]", "s32[2048,2]", "f32[4,128,128]")


@pytest.fixture(scope="module")
def compiled() -> Dump:
    return dump(_FILE, "ragged", _ARGS, "v5e", routing=Routing("one"))


@pytest.fixture(scope="module")
def profiled(compiled: Dump) -> ModuleProfile:
    return profile_module(compiled)


def test_ops_follow_each_other_and_fill_the_time(profiled: ModuleProfile) -> None:
    now = 0
    for op in profiled.ops:
        assert op.start == now
        now += op.cycles
    assert now == profiled.cycles > 0
    assert profiled.seconds == profiled.cycles / 1.5e9


def test_a_kernel_takes_its_tiles_from_the_routing(
    compiled: Dump, profiled: ModuleProfile
) -> None:
    (kernel,) = profiled.kernels()
    (call,) = compiled.calls
    assert kernel.how == BUNDLES
    assert call.name == "doubled"
    # All 2,048 tokens choose expert 0: 16 tiles of 128 rows.
    assert call.values[0] == [16]
    assert call.values[1] == [1, 1, 0, 0]
    fewer = replace(call, values=call.values | {0: [4]})
    (shorter,) = profile_module(replace(compiled, calls=(fewer,))).kernels()
    # A tile takes 16 registers through the one unit that stores them.
    assert kernel.cycles - shorter.cycles >= 12 * 16


def test_a_loop_counts_its_body_seven_times(profiled: ModuleProfile) -> None:
    body = [op for op in profiled.ops if op.count == 7]
    assert any(op.profile and op.profile.mxu_busy > 0.2 for op in body)


def test_a_kernel_that_cannot_be_simulated_says_why(compiled: Dump) -> None:
    (kernel,) = profile_module(replace(compiled, calls=())).kernels()
    assert kernel.confidence == "D"
    assert kernel.how == BYTES
    assert "argument0" in kernel.note


@pytest.mark.parametrize("chip", ["v6e", "tpu7x"])
def test_weights_of_one_byte_and_a_sigmoid_are_simulated(chip: str) -> None:
    file = _FILE.with_name("gated.py")
    types = ("bf16[4096,128]", "s32[4]", "f8e4m3fn[4,128,128]")
    made = dump(file, "gated", types, chip, routing=Routing("one"))
    (kernel,) = profile_module(made).kernels()
    assert kernel.how == BUNDLES
    assert kernel.note == ""
    (call,) = made.calls
    # All rows are expert 0's: 32 tiles.
    assert call.values[0] == [32]


def test_the_estimate_names_its_compiler(profiled: ModuleProfile) -> None:
    assert profiled.provenance.startswith("estimated from the schedule compiled by lib")
    assert profiled.libtpu


def test_a_module_that_is_cut_off_is_refused(compiled: Dump) -> None:
    with pytest.raises(DumpFailed, match="no whole ENTRY"):
        read_module(compiled.compiled[: len(compiled.compiled) // 2])
