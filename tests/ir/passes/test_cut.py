"""Cut: pieces of one layer of products, and the same layer when put together."""

import pytest

from ir import mlir
from ir.pipeline import make_pass, run_passes
from moegen import compiler
from moegen.check import check
from moegen.compiler import ALL_PASSES
from moegen.layers import SHIPPED, find_layer

SIZES = {"tokens": 48, "model": 16, "hidden": 24, "experts": 8}
ROUTED = [name for name in SHIPPED if name != "glam_dense"]


def sizes(name: str) -> dict[str, int]:
    return SIZES | ({"shared": 8, "k": 3} if name == "deepseek" else {})


def pieces(module: mlir.Module, function: str) -> list[mlir.OpView]:
    body = mlir.entry(mlir.functions(module)[function])
    return [
        op for op in mlir.walk(body) if op.operation.name == "kernel.grouped_matmul"
    ]


def cut(text: str) -> str:
    steps = [make_pass(name, {}, ALL_PASSES) for name in ("cut", "canonicalize")]
    return mlir.print_module(run_passes(mlir.parse(text), steps, lambda *_: None))


def depth(value: mlir.Value) -> int:
    """How many products follow one another up to a value."""
    producer = mlir.producer(value)
    if producer is None:
        return 0
    own = producer.name in ("kernel.dot", "kernel.outer")
    return own + max((depth(v) for v in producer.operands), default=0)


@pytest.fixture(scope="module")
def fused(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    return {
        name: compiler.compile(
            find_layer(name), cache=folder, dtype="bfloat16", **sizes(name)
        ).stages["canonicalize#3"]
        for name in ROUTED
    }


@pytest.mark.parametrize("name", ROUTED)
@pytest.mark.parametrize("function", ["forward", "forward_residuals", "backward"])
def test_no_piece_has_a_product_of_a_product(fused, name, function):
    module = mlir.parse(cut(fused[name]))
    made = pieces(module, function)
    assert len(made) > 1
    for op in made:
        last = list(op.operation.regions[0].blocks[0].operations)[-1]
        assert max(depth(v) for v in last.operation.operands) == 1


def test_pieces_of_a_gated_layer(fused):
    """Up and gate share a piece; backward has one for each gradient of weights."""
    after = mlir.parse(cut(fused["mixtral"]))
    assert len(pieces(after, "forward")) == 2
    names = [
        [inner.operation.name for inner in op.operation.regions[0].blocks[0]]
        for op in pieces(after, "backward")
    ]
    assert [n.count("kernel.dot") for n in names if "kernel.dot" in n] == [1, 2]
    assert sum("kernel.outer" in n for n in names) == 3


def test_what_only_products_read_is_stored_as_they_round_it(fused):
    module = mlir.parse(cut(fused["glam"]))
    up, _ = pieces(module, "forward")
    assert [str(r.type) for r in up.operation.results] == ["tensor<96x24xbf16>"]


def test_cutting_twice_changes_nothing(fused):
    once = cut(fused["deepseek"])
    assert cut(once) == once


@pytest.mark.parametrize("name", ROUTED)
def test_a_cut_layer_agrees_with_the_oracle(name, tmp_path, monkeypatch):
    order = (*compiler.ORDER[:-1], "cut", "canonicalize", "schedule")
    monkeypatch.setattr(compiler, "ORDER", order)
    cases = check(
        find_layer(name), sizes=sizes(name), routings=["zipf"], reruns=1, cache=tmp_path
    )
    assert cases[0].findings
    assert [f for case in cases for f in case.findings if not f.ok] == []
