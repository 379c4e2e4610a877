"""The compile service: its reading of messages, its cache, and real compilations."""

import json
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from backends.emitted import Emitted
from backends.tpu.compile import (
    TOPOLOGIES,
    Argument,
    Job,
    Kind,
    Outcome,
    compile_many,
    compile_one,
    service,
)
from backends.tpu.compile.classify import classify, death
from backends.tpu.compile.store import Store, keeps, key_of
from ir.errors import (
    BadArgument,
    NoTpuCompiler,
    UnknownChip,
    UnreadableSource,
    UnwritableFolder,
)
from tests.backends.tpu import messages

MIB, GIB = 2**20, 2**30
ROWS = Argument("bfloat16", (256, 256))
SMALL = Argument("float32", (8, 128))

try:
    service.installed()
    WHY_NOT = ""
except NoTpuCompiler as error:
    WHY_NOT = str(error)
real = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)

MATMUL = """
import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl


def kernel(x_ref, w_ref, out_ref):
    out_ref[...] = jnp.dot(
        x_ref[...], w_ref[...], preferred_element_type=jnp.float32
    )


def matmul(x, w, rows=128):
    print("jobs may print")
    inner, columns = w.shape
    return pl.pallas_call(
        kernel,
        grid=(x.shape[0] // rows,),
        in_specs=[
            pl.BlockSpec((rows, inner), lambda i: (i, 0)),
            pl.BlockSpec((inner, columns), lambda i: (0, 0)),
        ],
        out_specs=pl.BlockSpec((rows, columns), lambda i: (i, 0)),
        out_shape=jax.ShapeDtypeStruct((x.shape[0], columns), jnp.float32),
    )(x, w)


def first_tile(x_ref, out_ref):
    out_ref[...] = x_ref[:8, :128]


def oversize(x):
    return pl.pallas_call(
        first_tile,
        grid=(2,),
        in_specs=[pl.BlockSpec((4096, 2048), lambda i: (i, 0))],
        out_specs=pl.BlockSpec((8, 128), lambda i: (i, 0)),
        out_shape=jax.ShapeDtypeStruct((16, 128), x.dtype),
    )(x)
"""

AWKWARD = """
import os
import time

import jax
from jax.experimental.pallas import tpu as pltpu


def abort(x):
    os.abort()


def sleep(x):
    time.sleep(100)


def configure(x):
    jax.config.update("jax_enable_x64", True)
    return x


def leave(x):
    raise SystemExit(3)


def wide(x):
    return (x * pltpu.get_tpu_info().num_lanes).astype("float64")
"""


@pytest.fixture
def matmul(tmp_path: Path) -> Job:
    path = tmp_path / "matmul.py"
    path.write_text(MATMUL)
    return Job("v5e", str(path), "matmul", (ROWS, ROWS))


@pytest.fixture
def awkward(tmp_path: Path) -> Job:
    path = tmp_path / "awkward.py"
    path.write_text(AWKWARD)
    return Job("v5e", str(path), "abort", (SMALL,))


@pytest.mark.parametrize(
    ("text", "memory", "need", "limit"),
    [
        (messages.SCOPED_VMEM, "vmem", 96 * MIB, 16 * MIB),
        (messages.WINDOW, "vmem", 64 * MIB, 16 * MIB),
        (messages.SMEM_SCRATCH, "smem", 8 * MIB, 1 * MIB),
        (messages.SMEM_USED, "smem", round(2.29 * MIB), 1 * MIB),
        (messages.HBM, "hbm", 64 * GIB, round(15.75 * GIB)),
        (messages.HBM_OLD, "hbm", 64 * GIB, round(30.75 * GIB)),
    ],
)
def test_full_memories_are_read(text: str, memory: str, need: int, limit: int) -> None:
    outcome = Outcome.of(classify("JaxRuntimeError", text))
    assert outcome.kind is Kind.OUT_OF_MEMORY
    assert (outcome.memory, outcome.need, outcome.limit) == (memory, need, limit)


@pytest.mark.parametrize(
    ("error", "text", "reason"),
    [
        (
            "JaxRuntimeError",
            messages.WINDOW,
            "it needs 64 MiB of vmem, and has 16 MiB; the largest buffer is: input "
            "window allocation for operator input 0",
        ),
        (
            "JaxRuntimeError",
            messages.SMEM_USED,
            "it needs 2.29 MiB of smem, and has 1 MiB; the largest buffer is: "
            "prefetched SMEM operand 0",
        ),
        ("JaxRuntimeError", messages.HBM, "it needs 64 GiB of hbm, and has 15.75 GiB"),
        (
            "MosaicError",
            messages.RESHAPE,
            "infer-vector-layout: unsupported shape cast (tpu.reshape : "
            "(vector<3x128x7xf32>) -> vector<7x384xf32>)",
        ),
        (
            "MosaicError",
            messages.INT8_ON_V4,
            "Unsupported matmul RHS type on target: vector<128x128xi8> (tpu.matmul : "
            "(vector<512x128xi8>, vector<128x128xi8>, vector<512x128xi32>) -> "
            "vector<512x128xi32>)",
        ),
        (
            "RuntimeError",
            messages.SORT,
            "Unimplemented primitive in Pallas TPU lowering for tc: sort",
        ),
        (
            "ValueError",
            messages.BLOCK_SHAPE,
            "The Pallas TPU lowering currently requires that the last two dimensions "
            "of your block shape are divisible by 8 and 128 respectively, or be equal "
            "to the respective dimensions of the overall array. Block spec for args[0] "
            "in pallas_call mm_kernel at <source>:6 has block shape "
            "(Blocked(block_size=100), Blocked(block_size=512)), array shape (400, "
            "512), in memory space <MemorySpace.DEFAULT: 'default'>",
        ),
        ("KeyError", "'x'", "KeyError: 'x'"),
        ("AssertionError", "", "AssertionError without a message"),
        ("MemoryError", "", "the compiler ran out of memory of the host"),
        (
            "JaxRuntimeError",
            "RESOURCE_EXHAUSTED: something new.",
            "JaxRuntimeError: something new",
        ),
    ],
)
def test_reasons_are_sentences(error: str, text: str, reason: str) -> None:
    assert classify(error, text)["reason"] == reason


def test_long_reasons_are_cut() -> None:
    assert len(classify("ValueError", "long " * 1000)["reason"]) == 400


@pytest.mark.parametrize(
    ("code", "log", "ending"),
    [
        (-6, messages.ABORT, "SIGABRT"),
        (-9, "", "SIGKILL"),
        (-250, "", "signal 250"),
        (1, messages.BAD_FLAG, "exit code 1: Unknown command line flag 'nonsense'"),
    ],
)
def test_deaths_are_told(code: int, log: str, ending: str) -> None:
    assert death(code, log) == f"the compiler's process ended with {ending}"


def test_jobs_and_outcomes_are_json(matmul: Job) -> None:
    held = json.loads(json.dumps(matmul.data()))
    assert "file" not in held
    assert held["args"] == [{"dtype": "bfloat16", "shape": [256, 256]}] * 2
    outcome = Outcome(Kind.OUT_OF_MEMORY, "full", "compile", memory="vmem", need=2)
    assert Outcome.of(json.loads(json.dumps(outcome.data()))) == outcome


@pytest.mark.parametrize(
    "data", [[], {}, {"kind": "fine"}, {"kind": "legal", "need": "1"}, {"what": 1}]
)
def test_other_data_is_no_outcome(data: object) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Outcome.of(data)


def test_the_key_follows_content(matmul: Job) -> None:
    versions = {"jax": "1", "libtpu": "2"}
    elsewhere = replace(matmul, file="elsewhere.py")
    text = Emitted("text")
    first = key_of(matmul, text, versions, {"HOME": "here"})
    assert first == key_of(elsewhere, text, versions, {"HOME": "there"})
    others = [
        key_of(matmul, Emitted("texts"), versions, {}),
        key_of(matmul, Emitted("text", {"a.py": "b"}), versions, {}),
        key_of(matmul, text, versions | {"libtpu": "3"}, {}),
        key_of(matmul, text, versions, {"LIBTPU_INIT_ARGS": "--flag"}),
        key_of(replace(matmul, chip="v4"), text, versions, {}),
        key_of(replace(matmul, function="other"), text, versions, {}),
        key_of(replace(matmul, args=(ROWS,)), text, versions, {}),
        key_of(replace(matmul, static=(("rows", 64),)), text, versions, {}),
    ]
    assert len({first, *others}) == 9


def test_damaged_files_are_ignored(tmp_path: Path) -> None:
    store, outcome = Store(tmp_path / "new" / "folder"), Outcome(Kind.LEGAL, need=1)
    assert store.get("key") is None
    store.put("key", outcome)
    assert store.get("key") == outcome
    [path] = (tmp_path / "new" / "folder").iterdir()
    whole = path.read_text()
    for broken in (
        "",
        "[]",
        "\xff",
        whole[:-9],
        whole.replace('"need": 1', '"need": 2'),
    ):
        path.write_text(broken, encoding="latin-1")
        assert store.get("key") is None
    path.rename(path.with_name("other.json"))
    assert store.get("other") is None


def test_only_what_follows_from_content_is_kept() -> None:
    assert keeps(Outcome(Kind.ILLEGAL, stage="lower"))
    assert not keeps(Outcome(Kind.ILLEGAL, stage="import"))
    assert not keeps(Outcome(Kind.CRASHED))
    assert not keeps(Outcome(Kind.TIMED_OUT))


def test_missing_libtpu_is_one_error(
    matmul: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(service, "version", missing)
    with pytest.raises(NoTpuCompiler, match=r"pip install 'jax\[tpu\]'"):
        compile_one(matmul)


@real
def test_wrong_jobs_are_refused(matmul: Job, tmp_path: Path) -> None:
    with pytest.raises(UnknownChip, match="v5e, v5p"):
        compile_one(replace(matmul, chip="v3"))
    with pytest.raises(UnreadableSource, match="No such file"):
        compile_one(replace(matmul, file="none.py"))
    with pytest.raises(BadArgument, match="positive"):
        compile_many([], workers=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(UnwritableFolder, match="cache="):
        compile_one(matmul, cache=tmp_path / "file")
    assert compile_many([]) == []


@real
def test_refused_flags_are_one_error(
    matmul: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIBTPU_INIT_ARGS", "--nonsense=1")
    with pytest.raises(NoTpuCompiler, match=r"nonsense.*check LIBTPU_INIT_ARGS"):
        compile_many([matmul, replace(matmul, chip="v4")])


@real
def test_real_compilations(matmul: Job, tmp_path: Path) -> None:
    tall = Argument("float32", (8192, 2048))
    odd = replace(matmul, static=(("rows", 100),))
    jobs = [replace(matmul, chip=chip) for chip in TOPOLOGIES]
    jobs += [replace(matmul, function="oversize", args=(tall,)), odd, matmul]
    jobs += [replace(matmul, function="nothing")]
    outcomes = compile_many(jobs, cache=tmp_path / "cache")
    *legal, full, illegal, again, nothing = outcomes
    assert [outcome.kind for outcome in legal] == [Kind.LEGAL] * len(TOPOLOGIES)
    assert again == legal[1]
    assert again.argument_bytes == 2 * 256 * 256 * 2
    assert again.output_bytes == 256 * 256 * 4
    assert again.temporary_bytes == 0
    assert again.hlo_instructions == 3
    assert again.vmem_bytes
    assert 0 < again.seconds < 60
    assert (full.kind, full.memory, full.limit) == (
        Kind.OUT_OF_MEMORY,
        "vmem",
        16 * MIB,
    )
    assert full.need
    assert full.need >= 64 * MIB
    assert (illegal.kind, illegal.stage) == (Kind.ILLEGAL, "lower")
    assert "at matmul.py:7 has block shape" in illegal.reason
    assert (nothing.kind, nothing.stage) == (Kind.ILLEGAL, "import")
    assert compile_many(jobs[:-1], cache=tmp_path / "cache") == outcomes[:-1]


@pytest.fixture
def no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise AssertionError("a worker was started")

    monkeypatch.setattr(service, "Worker", refuse)


@real
@pytest.mark.usefixtures("no_worker")
def test_known_outcomes_start_no_worker(matmul: Job, tmp_path: Path) -> None:
    key = key_of(matmul, Emitted(MATMUL), service.installed(), service.environment())
    outcome = Outcome(Kind.ILLEGAL, "at <source>:6", "lower")
    Store(tmp_path).put(key, outcome)
    assert compile_one(matmul, cache=tmp_path).reason == "at matmul.py:6"
    (tmp_path / f"{key}.json").write_text("damaged")
    with pytest.raises(AssertionError, match="a worker was started"):
        compile_one(matmul, cache=tmp_path)


@real
def test_crashes_and_hangs_take_only_their_job(awkward: Job, tmp_path: Path) -> None:
    names = ["abort", "configure", "wide", "sleep", "leave", "abort", "wide"]
    jobs = [replace(awkward, function=name) for name in names]
    jobs[-1] = replace(jobs[-1], chip="v5p")
    outcomes = compile_many(jobs, workers=1, limit_s=6, cache=tmp_path / "cache")
    abort, configure, wide, sleep, leave, _, last = outcomes
    assert abort.kind is Kind.CRASHED
    assert "SIGABRT" in abort.reason
    assert configure.legal
    # Not eight bytes each: what `configure` set went with its process.
    assert wide.output_bytes == 8 * 128 * 4
    assert sleep.kind is Kind.TIMED_OUT
    assert sleep.seconds >= 6
    assert "limit of 6 s" in sleep.reason
    assert (leave.kind, leave.reason) == (Kind.ILLEGAL, "SystemExit: 3")
    assert leave.line == AWKWARD.splitlines().index("    raise SystemExit(3)") + 1
    assert last.legal
    assert len(list((tmp_path / "cache").iterdir())) == 4
