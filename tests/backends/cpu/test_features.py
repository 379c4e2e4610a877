from pathlib import Path

import pytest

from backends.cpu.features import multiplies_bfloat16
from backends.targets import find_target


@pytest.mark.parametrize(
    ("flags", "native"),
    [("fpu avx512f avx512_bf16", True), ("fpu amx_bf16", True), ("fpu avx512f", False)],
)
def test_linux_says_what_the_cpu_multiplies(flags, native, tmp_path):
    told = tmp_path / "cpuinfo"
    told.write_text(f"model name : a CPU\nflags : {flags}\n")
    assert multiplies_bfloat16(told) is native


def test_where_nobody_says_it_does_not(tmp_path):
    assert not multiplies_bfloat16(tmp_path / "missing")


@pytest.mark.parametrize(("native", "name"), [(True, "cpu-bf16"), (False, "cpu")])
def test_host_is_the_target_that_fits(native, name, monkeypatch):
    monkeypatch.setattr(
        "backends.cpu.features.multiplies_bfloat16", lambda cpu_info=Path(): native
    )
    assert find_target("host").name == name
