"""A right gradient passes the directional check, and a wrong one does not."""

import numpy as np

from ir import mlir
from ir.interpret.gradients import directional_check

LAYER = mlir.parse("""
func.func @forward(%x: tensor<4x3xf32>, %w: tensor<2x3x5xf32>, %c: tensor<4x1xi32>)
    -> (tensor<1x2xi32>, tensor<4x5xf32>) {
  %n = "moe.count"(%c) {experts = 2 : i64, groups = 1 : i64}
    : (tensor<4x1xi32>) -> tensor<1x2xi32>
  %rows = "moe.dispatch"(%x, %c) {experts = 2 : i64, rows = 4 : i64}
    : (tensor<4x3xf32>, tensor<4x1xi32>) -> tensor<4x3xf32>
  %h = "moe.expert_matmul"(%rows, %w, %c) {transposed = false}
    : (tensor<4x3xf32>, tensor<2x3x5xf32>, tensor<4x1xi32>) -> tensor<4x5xf32>
  %y = "moe.combine"(%h, %c) {experts = 2 : i64, dtype = "float32"}
    : (tensor<4x5xf32>, tensor<4x1xi32>) -> tensor<4x5xf32>
  func.return %n, %y : tensor<1x2xi32>, tensor<4x5xf32>
}""")

CHOICE = np.array([[1], [0], [-1], [1]], np.int32)


def example():
    random = np.random.default_rng(0)
    x, w = random.normal(size=(4, 3)), random.normal(size=(2, 3, 5))
    d = random.normal(size=(4, 5))
    dx, dw = np.zeros_like(x), np.zeros_like(w)
    for t, e in ((0, 1), (1, 0), (3, 1)):
        dx[t] = w[e] @ d[t]
        dw[e] += np.outer(x[t], d[t])
    return [x, w, CHOICE], d, dx, dw


def test_right_gradients_pass():
    arguments, d, dx, dw = example()
    errors = directional_check(LAYER, arguments, [d], [dx, dw], [0, 1], seed=1)
    assert max(errors) < 1e-6


def test_wrong_gradients_fail():
    arguments, d, dx, dw = example()
    dw[1] *= 1.1
    errors = directional_check(LAYER, arguments, [d], [2 * dx, dw], [0, 1], seed=1)
    assert errors[0] > 0.4
    assert errors[1] > 1e-3


def test_a_gradient_of_zero_is_not_drowned_in_rounding():
    arguments, d, dx, _ = example()
    arguments[2] = np.full((4, 1), -1, np.int32)
    errors = directional_check(LAYER, arguments, [d], [0 * dx], [0], seed=1)
    assert errors == [0.0]
