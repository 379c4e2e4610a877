"""The interpreter's dialect `kernel`: equal to the moe ops that it is made from."""

import numpy as np
import pytest

from ir import mlir
from ir.errors import ExpertOutOfRange, IllegalIR
from ir.interpret import interpret

CHOICE = np.array([[2, 0], [-1, 2], [3, 2], [-1, -1]], np.int32)
EMPTY = 1  # the expert without a row

SQUARE = """({
  ^bb0(%s: tensor<f32>):
    %two = stablehlo.constant dense<2.0> : tensor<f32>
    %q = stablehlo.power %s, %two : tensor<f32>
    "moe.yield"(%q) : (tensor<f32>) -> ()
  }) {name = "square", results = ["float32"]}"""

TYPES = (
    "%x: tensor<4x2xf32>, %w: tensor<4x2x3xf32>, %b: tensor<4x3xf32>, "
    "%g: tensor<4x2xf32>, %c: tensor<4x2xi32>"
)

# y = combine(square(dispatch(x) @ w + b), gates); also the sums of a backward pass.
MOE = f"""
func.func @forward({TYPES}) -> (tensor<4x3xf32>, tensor<4x2x3xf32>, tensor<4x3xf32>,
                                tensor<4x2xf32>) {{
  %rows = "moe.dispatch"(%x, %c) {{experts = 4 : i64, rows = 6 : i64}}
    : (tensor<4x2xf32>, tensor<4x2xi32>) -> tensor<6x2xf32>
  %dot = "moe.expert_matmul"(%rows, %w, %c) {{transposed = false}}
    : (tensor<6x2xf32>, tensor<4x2x3xf32>, tensor<4x2xi32>) -> tensor<6x3xf32>
  %bias = "moe.expert_bias"(%b, %c) {{rows = 6 : i64}}
    : (tensor<4x3xf32>, tensor<4x2xi32>) -> tensor<6x3xf32>
  %sum = stablehlo.add %dot, %bias : tensor<6x3xf32>
  %h = "moe.map"(%sum) {SQUARE} : (tensor<6x3xf32>) -> tensor<6x3xf32>
  %y = "moe.combine"(%h, %c, %g) {{experts = 4 : i64, dtype = "float32"}}
    : (tensor<6x3xf32>, tensor<4x2xi32>, tensor<4x2xf32>) -> tensor<4x3xf32>
  %dw = "moe.expert_outer"(%rows, %h, %c) {{experts = 4 : i64, dtype = "float32"}}
    : (tensor<6x2xf32>, tensor<6x3xf32>, tensor<4x2xi32>) -> tensor<4x2x3xf32>
  %db = "moe.expert_sum"(%h, %c) {{experts = 4 : i64, dtype = "float32"}}
    : (tensor<6x3xf32>, tensor<4x2xi32>) -> tensor<4x3xf32>
  %gr = "moe.dispatch_choices"(%g, %c) {{experts = 4 : i64, rows = 6 : i64}}
    : (tensor<4x2xf32>, tensor<4x2xi32>) -> tensor<6x1xf32>
  %gw = stablehlo.broadcast_in_dim %gr, dims = [0, 1]
    : (tensor<6x1xf32>) -> tensor<6x3xf32>
  %dots = "moe.row_dot"(%gw, %h)
    : (tensor<6x3xf32>, tensor<6x3xf32>) -> tensor<6x1xf32>
  %dg = "moe.collect"(%dots, %c) {{experts = 4 : i64}}
    : (tensor<6x1xf32>, tensor<4x2xi32>) -> tensor<4x2xf32>
  func.return %y, %dw, %db, %dg : tensor<4x3xf32>, tensor<4x2x3xf32>,
    tensor<4x3xf32>, tensor<4x2xf32>
}}"""

KERNEL = f"""
func.func @forward({TYPES}) -> (tensor<4x3xf32>, tensor<4x2x3xf32>, tensor<4x3xf32>,
                                tensor<4x2xf32>, tensor<6x3xf32>) {{
  %p = "kernel.row_plan"(%c) {{experts = 4 : i64, rows = 6 : i64}}
    : (tensor<4x2xi32>) -> tensor<4x2xi32>
  %h = "kernel.grouped_matmul"(%p, %x, %w, %b) ({{
  ^bb0(%xr: tensor<?x2xf32>, %wr: tensor<2x3xf32>, %br: tensor<3xf32>):
    %dot = "kernel.dot"(%xr, %wr) {{transposed = false}}
      : (tensor<?x2xf32>, tensor<2x3xf32>) -> tensor<?x3xf32>
    %bias = "kernel.bias"(%br) : (tensor<3xf32>) -> tensor<?x3xf32>
    %sum = stablehlo.add %dot, %bias : tensor<?x3xf32>
    %q = "moe.map"(%sum) {SQUARE} : (tensor<?x3xf32>) -> tensor<?x3xf32>
    "kernel.yield"(%q) : (tensor<?x3xf32>) -> ()
  }}) {{experts = 4 : i64, rows = 6 : i64, operands = ["token", "weight", "weight"],
      results = ["row"], shapes = [[6 : i64, 3 : i64]], dtypes = ["float32"]}}
    : (tensor<4x2xi32>, tensor<4x2xf32>, tensor<4x2x3xf32>, tensor<4x3xf32>)
    -> tensor<6x3xf32>
  %y = "kernel.combine"(%p, %h, %g) {{dtype = "float32"}}
    : (tensor<4x2xi32>, tensor<6x3xf32>, tensor<4x2xf32>) -> tensor<4x3xf32>
  %dw, %db, %dots = "kernel.grouped_matmul"(%p, %x, %h, %g) ({{
  ^bb0(%xr: tensor<?x2xf32>, %hr: tensor<?x3xf32>, %gr: tensor<?x1xf32>):
    %o = "kernel.outer"(%xr, %hr)
      : (tensor<?x2xf32>, tensor<?x3xf32>) -> tensor<2x3xf32>
    %s = "kernel.sum"(%hr) : (tensor<?x3xf32>) -> tensor<3xf32>
    %gw = "kernel.broadcast"(%gr) {{width = 3 : i64}}
      : (tensor<?x1xf32>) -> tensor<?x3xf32>
    %d = "kernel.row_dot"(%gw, %hr)
      : (tensor<?x3xf32>, tensor<?x3xf32>) -> tensor<?x1xf32>
    "kernel.yield"(%o, %s, %d)
      : (tensor<2x3xf32>, tensor<3xf32>, tensor<?x1xf32>) -> ()
  }}) {{experts = 4 : i64, rows = 6 : i64, operands = ["token", "row", "choice"],
      results = ["weight", "weight", "row"], dtypes = ["float32", "float32", "float32"],
      shapes = [[4 : i64, 2 : i64, 3 : i64], [4 : i64, 3 : i64], [6 : i64, 1 : i64]]}}
    : (tensor<4x2xi32>, tensor<4x2xf32>, tensor<6x3xf32>, tensor<4x2xf32>)
    -> (tensor<4x2x3xf32>, tensor<4x3xf32>, tensor<6x1xf32>)
  %dg = "kernel.collect"(%p, %dots)
    : (tensor<4x2xi32>, tensor<6x1xf32>) -> tensor<4x2xf32>
  func.return %y, %dw, %db, %dg, %h : tensor<4x3xf32>, tensor<4x2x3xf32>,
    tensor<4x3xf32>, tensor<4x2xf32>, tensor<6x3xf32>
}}"""


def arguments(seed=0):
    random = np.random.default_rng(seed)
    shapes = [(4, 2), (4, 2, 3), (4, 3), (4, 2)]
    return [*(random.normal(size=shape) for shape in shapes), CHOICE]


def forward(text, given):
    return interpret(mlir.parse(text), "forward", given).results


def by_hand(x, w, b, g, choice):
    y = np.zeros((4, 3))
    for t, k in np.ndindex(4, 2):
        e = choice[t, k]
        if e >= 0:
            y[t] += g[t, k] * (x[t] @ w[e] + b[e]) ** 2
    return y


@pytest.mark.parametrize("text", [MOE, KERNEL], ids=["moe", "kernel"])
def test_a_layer_equals_its_loops(text):
    np.testing.assert_allclose(forward(text, arguments())[0], by_hand(*arguments()))


def test_kernel_ops_equal_the_moe_ops():
    *fused, rows = forward(KERNEL, arguments())
    for mine, theirs in zip(fused, forward(MOE, arguments()), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-12)
    assert not rows[5].any()
    assert not fused[1][EMPTY].any()
    assert not fused[2][EMPTY].any()
    assert (fused[3][CHOICE < 0] == 0).all()


@pytest.mark.parametrize("text", [MOE, KERNEL], ids=["moe", "kernel"])
@pytest.mark.parametrize("poison", ["token", "unused gate", "unused weights"])
def test_nan_stays_where_it_is(text, poison):
    clean = forward(text, arguments())[0]
    given = arguments()
    untouched = [0, 1, 2, 3]
    if poison == "token":
        given[0][1] = np.nan
        untouched = [0, 2, 3]
    elif poison == "unused gate":
        given[3][CHOICE < 0] = np.nan
    else:
        given[1][EMPTY] = given[2][EMPTY] = np.nan
    y = forward(text, given)[0]
    np.testing.assert_array_equal(y[untouched], clean[untouched])
    assert np.isnan(y[1]).all() == (poison == "token")
    assert not y[3].any()


@pytest.mark.parametrize("text", [MOE, KERNEL], ids=["moe", "kernel"])
def test_nothing_kept_gives_zeros(text):
    given = [*arguments()[:4], np.full((4, 2), -1, np.int32)]
    assert not any(result.any() for result in forward(text, given))


@pytest.mark.parametrize("text", [MOE, KERNEL], ids=["moe", "kernel"])
def test_the_ragged_edge_is_checked(text):
    full = [*arguments()[:4], np.zeros((4, 2), np.int32)]
    with pytest.raises(IllegalIR, match=r"8 choices are kept, .* at most 6"):
        forward(text, full)
    beyond = [*arguments()[:4], np.full((4, 2), 4, np.int32)]
    with pytest.raises(ExpertOutOfRange, match="holds 4"):
        forward(text, beyond)
