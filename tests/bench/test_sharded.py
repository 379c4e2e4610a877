"""A layer inside `shard_map`: numbers on eight devices of the CPU.

Interpreted kernels do not take check_vma; the compiled program has it.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("target", ["cpu", "tpu-v4"])
def test_values_and_gradients_of_a_sharded_layer(target, tmp_path):
    flags = "--xla_force_host_platform_device_count=8"
    ran = subprocess.run(
        [sys.executable, "-m", "tests.bench.sharded_child", target, str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    errors = json.loads(ran.stdout.splitlines()[-1])
    assert set(errors) == {"value", "wi", "wo", "x"}
    assert max(errors.values()) < 1e-5


@pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed"
)
def test_it_compiles_for_a_thousand_chips_with_check_vma():
    ran = subprocess.run(
        [sys.executable, "-m", "bench.sharded", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode in (0, 1), ran.stderr[-2000:]
    rows = json.loads(ran.stdout.splitlines()[-1])["rows"]
    assert [row["pass"] for row in rows] == ["forward", "training"]
    assert all(row["chips"] == 1024 for row in rows)
    assert all(0 < row["arguments GB"] < 32 for row in rows)
