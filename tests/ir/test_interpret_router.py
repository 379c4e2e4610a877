"""The interpreter's `kernel.router`: groups, sums, and what its rules refuse."""

import numpy as np
import pytest

from ir import mlir
from ir.errors import IllegalIR
from ir.interpret import interpret
from ir.verify import verify

TEXT = """
func.func @forward(%x: tensor<6x2xf32>, %n: tensor<6xf32>, %g: tensor<{groups}x3xf32>,
    %w: tensor<2x3xf32>) -> ({results}) {{
  %r:5 = "kernel.router"(%x, %n, %g, %w) ({{
  ^bb0(%a: tensor<?x2xf32>, %b: tensor<?x1xf32>, %h: tensor<3xf32>,
       %m: tensor<2x3xf32>):
    %d = "kernel.dot"(%a, %m) {{transposed = false}}
      : (tensor<?x2xf32>, tensor<2x3xf32>) -> tensor<?x3xf32>
    %s = "kernel.spread"(%h) {{width = 3 : i64}} : (tensor<3xf32>) -> tensor<?x3xf32>
    %l = stablehlo.add %d, %s : tensor<?x3xf32>
    %c = "moe.top_k"(%l) {{k = 2 : i64}} : (tensor<?x3xf32>) -> tensor<?x2xi32>
    %f = "kernel.columns"(%c) {{start = 0 : i64, limit = 1 : i64}}
      : (tensor<?x2xi32>) -> tensor<?x1xi32>
    %k = "kernel.count"(%f) {{experts = 3 : i64}} : (tensor<?x1xi32>) -> tensor<?x3xi32>
    %t = "kernel.sum"(%k) : (tensor<?x3xi32>) -> tensor<3xi32>
    %e = "kernel.row_reduce"(%l) {{by = "{by}"}} : (tensor<?x3xf32>) -> tensor<?x1xf32>
    %q = stablehlo.multiply %e, %b : tensor<?x1xf32>
    %u = "kernel.sum"(%q) : (tensor<?x1xf32>) -> tensor<1xf32>
    %o = "kernel.outer"(%a, %l)
      : (tensor<?x2xf32>, tensor<?x3xf32>) -> tensor<2x3xf32>
    "kernel.yield"(%c, %e, %t, %u, %o) : (tensor<?x2xi32>, tensor<?x1xf32>,
      tensor<3xi32>, tensor<1xf32>, tensor<2x3xf32>) -> ()
  }}) {{tokens = 6 : i64, groups = {groups} : i64, narrow = [1, 2, 3],
    operands = ["token", "token", "group", "whole"],
    results = ["token", "token", "group", "sum", "sum"],
    shapes = [[6, 2], [6, 1], [{groups}, 3], [1], [2, 3]],
    dtypes = ["int32", "float32", "int32", "float32", "float32"]}}
    : (tensor<6x2xf32>, tensor<6xf32>, tensor<{groups}x3xf32>, tensor<2x3xf32>)
    -> ({results})
  func.return %r#0, %r#1, %r#2, %r#3, %r#4 : {results}
}}"""


def parsed(groups=2, by="maximum"):
    results = (
        f"tensor<6x2xi32>, tensor<6x1xf32>, tensor<{groups}x3xi32>, "
        "tensor<1xf32>, tensor<2x3xf32>"
    )
    return mlir.parse(TEXT.format(groups=groups, by=by, results=results))


@pytest.mark.parametrize("groups", [1, 2, 3])
def test_a_router_runs_group_by_group_and_adds_over_tokens(groups):
    random = np.random.default_rng(0)
    x, n = random.normal(size=(6, 2)), random.normal(size=6)
    g, w = random.normal(size=(groups, 3)), random.normal(size=(2, 3))
    module = parsed(groups)
    verify(module, "as written")
    run = interpret(module, "forward", [x, n, g, w])
    choice, best, counts, total, outer = run.results
    logits = x @ w + np.repeat(g, 6 // groups, axis=0)
    order = np.argsort(-logits, axis=1, kind="stable")[:, :2]
    np.testing.assert_array_equal(choice, order)
    np.testing.assert_allclose(best[:, 0], logits.max(axis=1))
    for group, mine in enumerate(np.split(order[:, 0], groups)):
        np.testing.assert_array_equal(counts[group], np.bincount(mine, minlength=3))
    np.testing.assert_allclose(total, [np.sum(logits.max(axis=1) * n)])
    np.testing.assert_allclose(outer, x.T @ logits)
    falling = np.sort(logits, axis=1)[:, ::-1]
    gaps = (falling[:, :-1] - falling[:, 1:]).min(axis=1)
    np.testing.assert_allclose(run.margins[0], gaps)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("groups = 2 : i64", "groups = 4 : i64"), "3 or 6 groups"),
        (("tokens = 6 : i64", "tokens = 8 : i64"), "has to begin with 8"),
        (('"token", "group", "whole"', '"token", "group", "row"'), "do not fit"),
        (("limit = 1 : i64", "limit = 3 : i64"), "columns 0 to 3"),
        (('by = "maximum"', 'by = "median"'), "'median'"),
    ],
)
def test_what_the_verifier_says(change, told):
    text = mlir.print_module(parsed(), locations=False)
    assert change[0] in text
    with pytest.raises(IllegalIR, match=told):
        verify(mlir.parse(text.replace(*change)), "after a test")
