"""The whole path: stages round-trip, emission is deterministic and stands alone."""

import ast
import hashlib
import subprocess
import sys
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import moegen
from backends.emitted import Emitted, read_emitted
from ir import mlir
from ir.errors import IllegalIR
from ir.interpret import interpret
from ir.pipeline import make_pass, run_passes
from ir.verify import verify
from moegen import cache
from moegen import lang as moe
from moegen.check import check
from moegen.compiler import ALL_PASSES, ORDER
from moegen.layers import SHIPPED, find_layer
from tests.moegen.small import SMALL, arguments, compiled, small


@pytest.fixture(scope="module")
def ops(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    return {name: compiled(name, folder) for name in SHIPPED}


@pytest.mark.parametrize("name", SHIPPED)
def test_text_after_any_pass_carries_on_to_the_same_end(ops, name):
    stages = list(ops[name].stages.values())
    for position in range(len(ORDER) + 1):
        left = [
            make_pass(step, {"target": "cpu"} if step == "schedule" else {}, ALL_PASSES)
            for step in ORDER[position:]
        ]
        end = run_passes(mlir.parse(stages[position]), left, lambda *_: None)
        assert mlir.print_module(end) == stages[-1], f"from stage {position}"


@pytest.mark.parametrize("name", SHIPPED)
def test_emission_is_deterministic_and_plain(ops, name, tmp_path):
    op = ops[name]
    again = moegen.compile(find_layer(name), "cpu", cache=tmp_path, **small(name))
    assert again.source == op.source
    tree = ast.parse(op.source)
    imported = {
        (node.module or "") if isinstance(node, ast.ImportFrom) else node.names[0].name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    tops = {module.partition(".")[0] for module in imported}
    assert tops <= {"jax", "numpy", "typing", "collections"}
    code = op.source.split("# The IR that this module")[0].split("\n")
    assert max(map(len, code)) <= 88
    assert len(code) < 750


@pytest.mark.smoke
@pytest.mark.parametrize("name", ["glam", "deepseek"])
def test_every_stage_means_the_same(ops, name):
    op = ops[name]
    params, inputs = arguments(op)
    given = [np.asarray(a) for a in (*inputs.values(), *params.values())]
    outputs = [
        interpret(mlir.parse(text), "forward", given).results[0]
        for text in op.stages.values()
    ]
    for output in outputs[1:]:
        np.testing.assert_allclose(output, outputs[0], rtol=1e-12, atol=1e-12)
    y, _ = op(params, **inputs)
    error = np.linalg.norm(y - outputs[0]) / np.linalg.norm(outputs[0])
    assert error < 1e-5


@pytest.mark.parametrize(
    ("target", "dtype"),
    [("cpu", "float32"), ("cpu", "bfloat16"), ("cpu-bf16", "bfloat16")],
)
@pytest.mark.parametrize("name", ["glam", "mixtral", "expert_choice"])
def test_check_passes(name, target, dtype, tmp_path):
    cases = check(
        find_layer(name),
        target,
        dtype,
        routings=["zipf", "empty experts", "NaN token"],
        reruns=3,
        cache=tmp_path,
    )
    wrong = [f for case in cases for f in case.findings if not f.ok]
    assert not wrong
    assert any(case.findings for case in cases)


def test_check_catches_a_wrong_gradient(tmp_path, monkeypatch):
    from backends.cpu import emit as emitter

    right = emitter.emit

    def wrong(module, target):
        made = right(module, target)
        call = "d_weights = expert_outer("
        return replace(made, text=made.text.replace(call, f"{call}1.01 * "))

    monkeypatch.setattr(emitter, "emit", wrong)
    cases = check(find_layer("glam"), routings=["balanced"], reruns=1, cache=tmp_path)
    named = {f.name for case in cases for f in case.findings if not f.ok}
    assert named
    assert named <= {"d_wi", "d_wo"}


def test_program_size_does_not_depend_on_experts(tmp_path):
    lines = set()
    for experts in (8, 256):
        sizes = {"tokens": 512, "model": 48, "hidden": 80, "experts": experts}
        op = moegen.compile(find_layer("mixtral"), cache=tmp_path, **sizes)
        params, inputs = arguments(op)
        step = jax.jit(jax.grad(lambda p, x, op=op: op(p, x)[0].sum()))
        lines.add(step.lower(params, inputs["x"]).as_text().count("\n"))
    assert len(lines) == 1


def test_verifier_refuses_a_broken_module_with_numbers(ops):
    text = ops["glam"].stages["trace"].replace("k = 2 : i64} : (t", "k = 9 : i64} : (t")
    with pytest.raises(IllegalIR, match="k=9 of 8 experts"):
        verify(mlir.parse(text), "when read")


def test_derived_backward_without_kept_products_is_the_same(ops):
    op = ops["mixtral"]
    params, inputs = arguments(op)
    given = [np.asarray(a) for a in (*inputs.values(), *params.values())]
    random = np.random.default_rng(1)
    found = []
    for keep in ("true", "false"):
        steps = [make_pass("derive-backward", {"keep": keep}, ALL_PASSES)]
        module = run_passes(
            mlir.parse(op.stages["canonicalize"]), steps, lambda *_: None
        )
        results = interpret(module, "forward_residuals", given).results
        count = len(interpret(module, "forward", given).results)
        kinds = [
            a.type for a in mlir.entry(mlir.functions(module)["backward"]).arguments
        ]
        residuals = results[count:]
        random = np.random.default_rng(1)
        left = len(kinds) - len(given) - len(residuals)
        shapes = [results[0].shape, (), *[()] * (left - 2)]
        cotangents = [random.standard_normal(shape) for shape in shapes]
        order = mlir.argument_facts(mlir.functions(module)["backward"])
        rest = iter(residuals), iter(cotangents)
        values = [
            next(rest["moe.cotangent" in str(fact)]) for fact in order[len(given) :]
        ]
        found.append(interpret(module, "backward", [*given, *values]).results)
    for kept, again in zip(*found, strict=True):
        np.testing.assert_allclose(kept, again, rtol=1e-9, atol=1e-12)


def custom_router(x, w, state, k):
    """A user's own stateful router: scores corrected by a running state."""
    scores = jax.nn.sigmoid(moe.matmul(x, w))
    choice = moe.top_k(scores - state, k)
    load = moe.count(choice)[0].astype(jnp.float32)
    moe.metric("state", 0.9 * state + 0.1 * load / jnp.sum(load))
    return choice, moe.take(scores, choice)


def with_custom_router(
    x: jax.Array = moe.tensor("tokens model"),
    state: jax.Array = moe.tensor("experts", dtype="float32"),
    *,
    tokens: int,
    model: int,
    hidden: int,
    experts: int,
    out_first: bool = False,
) -> jax.Array:
    router = moe.param("router", "model experts", dtype="float32")
    up, down = "experts model hidden", "experts hidden model"
    wi = moe.param("wi", down if out_first else up)
    bias = moe.param("bias", "experts hidden")
    wo = moe.param("wo", up if out_first else down)
    choice, gates = custom_router(x, router, state, 2)
    rows = moe.dispatch(x, choice) * moe.dispatch_choices(gates, choice)
    before = moe.expert_bias(moe.expert_matmul(rows, wi, out_first), bias)
    return moe.combine(moe.expert_matmul(jax.nn.gelu(before), wo, out_first))


@pytest.mark.parametrize("out_first", [False, True])
def test_a_users_own_router_bias_and_row_scale(tmp_path, out_first):
    cases = check(
        with_custom_router,
        sizes={**SMALL, "experts": 8, "out_first": out_first},
        routings=["zipf"],
        reruns=2,
        cache=tmp_path,
    )
    assert cases[0].findings
    assert not [f for f in cases[0].findings if not f.ok]


def scaled(x=moe.tensor("tokens model"), *, tokens=8, model=4, hidden=6, experts=3):
    """Its names are also the emitted module's own; its function has a plain vjp."""
    router = moe.param("router", "model experts", dtype="float32")
    wi = moe.param("kept", "experts model hidden")
    wo = moe.param("d_output", "experts hidden model")
    d_aux = moe.softmax(moe.matmul(x, router))
    results = moe.top_k(d_aux, 2)
    rows = moe.dispatch(x, results)
    inner = (moe.expert_matmul(rows, wi) * np.float64(2.0)).astype(jnp.bfloat16)
    return moe.combine(moe.expert_matmul(inner, wo), moe.take(d_aux, results))


def test_a_linear_activation_and_names_of_the_wrapper(tmp_path):
    """The backward computes rows again that nothing but its own sums read."""
    cases = check(scaled, routings=["zipf"], reruns=1, cache=tmp_path, dtype="bfloat16")
    assert cases[0].findings
    assert not [str(f) for f in cases[0].findings if not f.ok]


def test_custom_derivatives_are_kept(tmp_path):
    def layer(x=moe.tensor("tokens model"), *, tokens: int = 2, model: int = 2):
        return jax.nn.relu(x) + jax.nn.softplus(x)

    op = moegen.compile(layer, cache=tmp_path)
    zero = jnp.zeros((2, 2))
    gradient = jax.grad(lambda x: op({}, x)[0].sum())(zero)
    np.testing.assert_allclose(gradient, 0.5)


def test_lines_and_names_of_the_user_are_kept(ops):
    emitted = ops["glam"].source
    assert "gates = " in emitted
    assert "scores = softmax(" in emitted
    assert "glam_moe.py" in ops["glam"].stages["schedule"]


@pytest.mark.parametrize("pad", [0, 16])
def test_load_balance_golden_values(pad, tmp_path):
    def layer(
        x=moe.tensor("tokens experts"),
        valid=moe.tensor("tokens", dtype="bool"),
        *,
        tokens: int = 32,
        experts: int = 4,
    ):
        scores = moe.softmax(x)
        choice = moe.drop(moe.top_k(scores, 1), valid)
        moe.loss("balance", moe.load_balance(scores, choice, valid=valid))
        return x

    op = moegen.compile(layer, tokens=32 + pad, cache=tmp_path)
    valid = jnp.arange(32 + pad) < 32
    balanced = 50.0 * jax.nn.one_hot(jnp.arange(32 + pad) % 4, 4)
    one = 50.0 * jax.nn.one_hot(jnp.zeros(32 + pad, jnp.int32), 4)
    balance = lambda x: float(op({}, x, valid)[1]["loss"])  # noqa: E731
    assert balance(balanced) == pytest.approx(1.0)
    assert balance(one) == pytest.approx(4.0)


def test_x64_changes_nothing(tmp_path):
    program = """
import jax; jax.config.update("jax_enable_x64", True)
import moegen; from examples.glam_moe import glam_moe
op = moegen.compile(glam_moe, tokens=16, model=8, hidden=8, experts=4)
p = op.init(jax.random.key(0)); x = jax.numpy.ones((16, 8), "float32")
g = jax.jit(jax.grad(lambda p: op(p, x)[0].sum()))(p)
assert {str(a.dtype) for a in g.values()} == {"float32"}
"""
    root = Path(__file__).parent.parent.parent
    environment = {"XDG_CACHE_HOME": str(tmp_path), "JAX_PLATFORMS": "cpu", "PATH": ""}
    subprocess.run(
        [sys.executable, "-c", program], cwd=root, env=environment, check=True
    )


def test_compiling_inside_shard_map_changes_nothing(ops, tmp_path):
    mesh = jax.make_mesh((1,), ("data",), (jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("data")

    def body(x):
        assert compiled("glam", tmp_path).source == ops["glam"].source
        return x

    spread = jax.shard_map(body, mesh=mesh, in_specs=spec, out_specs=spec)
    jax.eval_shape(spread, jnp.ones(1))


PACKAGE = Emitted("from .one import value\n", {"one.py": "value = 1\n"})


@pytest.mark.parametrize("emitted", [Emitted("value = 1\n"), PACKAGE])
def test_an_altered_file_is_written_anew_and_never_run(emitted, tmp_path):
    path = cache.store(emitted, "m", tmp_path)
    files = [f for f in tmp_path.rglob("*.py") if "value = 1" in f.read_text()]
    (file,) = files
    file.write_text("value = 2\n")
    assert emitted.run("m", str(path)).value == 1
    assert cache.store(emitted, "m", tmp_path) == path
    assert file.read_text() == "value = 1\n"
    assert read_emitted(path) == emitted


def test_equal_names_of_different_texts_lie_apart(tmp_path):
    other = replace(PACKAGE, beside={"one.py": "value = 2\n"})
    places = {cache.store(e, "m", tmp_path) for e in (PACKAGE, other)}
    assert len(places) == 2
    assert {read_emitted(place).beside["one.py"] for place in places} == {
        "value = 1\n",
        "value = 2\n",
    }


def test_a_new_cache_folder_is_private(tmp_path):
    cache.store(Emitted("value = 1\n"), "m", tmp_path / "new")
    assert (tmp_path / "new").stat().st_mode & 0o077 == 0


def hammer(folder: str) -> bool:
    for number in range(25):
        source = f"value = {number % 3}\n" * 500
        path = cache.store(Emitted(source), "m", Path(folder))
        if path.stem.rpartition("-")[2] != hashlib.sha256(source.encode()).hexdigest():
            return False
        if read_emitted(path).text != source:
            return False
    return True


def test_many_writers_of_one_cache(tmp_path):
    with get_context("spawn").Pool(3) as pool:
        assert all(pool.map(hammer, [str(tmp_path)] * 3))


def test_rows_are_bounded_by_what_can_be_kept(ops):
    # 8 experts take 48 * 2.0 / 8 = 12 tokens each, of 48 * 8 possible choices.
    assert "\nROWS = 96  #" in ops["expert_choice"].source
    # Two choices of 48 tokens, below 8 experts of 12 places: no bound but T * K.
    assert "\nROWS = 96  #" in ops["glam"].source


def test_more_places_than_choices_drop_nothing(tmp_path):
    sizes = small("glam") | {"capacity_factor": 1e12}
    op = moegen.compile(find_layer("glam"), "cpu", cache=tmp_path, **sizes)
    params, inputs = arguments(op)
    _, aux = op(params, inputs["x"])
    assert int(aux["metrics"]["dropped"]) == 0
