"""The interpreter's elementwise and shape ops, and the regions of `moe.map`."""

import warnings

import ml_dtypes
import numpy as np
import pytest

from ir import mlir
from ir.errors import IllegalIR
from ir.interpret import interpret

X = np.arange(6.0).reshape(2, 3)


def run(body, result, *arguments, types=()):
    """Run `body`, which defines %r, as a function of %a0, %a1, ..."""
    names = ", ".join(f"%a{i}: {kind}" for i, kind in enumerate(types))
    text = f"""func.func @forward({names}) -> {result} {{
      {body}
      func.return %r : {result}
    }}"""
    given = [np.asarray(a) for a in arguments]
    return interpret(mlir.parse(text), "forward", given).results[0]


def of_x(body, result):
    return run(body, result, X, types=["tensor<2x3xf32>"])


@pytest.mark.parametrize(
    ("text", "expected", "dtype"),
    [
        ("dense<1.5> : tensor<2xf32>", [1.5, 1.5], np.float64),
        ("dense<[1.5, -2.0]> : tensor<2xf32>", [1.5, -2.0], np.float64),
        ("dense<[1.1, 3.0]> : tensor<2xbf16>", [1.1015625, 3.0], np.float64),
        ("dense<1.1> : tensor<2xbf16>", [1.1015625, 1.1015625], np.float64),
        ("dense<[1.5, 3.0]> : tensor<2xf16>", [1.5, 3.0], np.float64),
        ("dense<0xFF800000> : tensor<2xf32>", [-np.inf, -np.inf], np.float64),
        ("dense<[true, false]> : tensor<2xi1>", [True, False], np.bool_),
        ("dense<[7, 4294967295]> : tensor<2xui32>", [7, 2**32 - 1], np.uint32),
        ("dense<-3> : tensor<2xi32>", [-3, -3], np.int32),
    ],
)
def test_constant(text, expected, dtype):
    kind = text.split(" : ")[1]
    got = run(f"%r = stablehlo.constant {text}", kind)
    assert got.dtype == dtype
    assert got.tolist() == expected


def test_bfloat16_arguments_are_exact():
    given = np.array([1.1, 2.0], ml_dtypes.bfloat16)
    body = "%r = stablehlo.add %a0, %a0 : tensor<2xbf16>"
    got = run(body, "tensor<2xbf16>", given, types=["tensor<2xbf16>"])
    assert got.dtype == np.float64
    assert got.tolist() == [2.203125, 4.0]


def test_integers_wrap_in_their_own_width():
    body = "%r = stablehlo.multiply %a0, %a0 : tensor<1xui32>"
    kind = "tensor<1xui32>"
    got = run(body, kind, np.array([2**31 + 1], np.uint32), types=[kind])
    assert got.dtype == np.uint32
    assert got.tolist() == [(2**31 + 1) ** 2 % 2**32]


@pytest.mark.parametrize(
    ("body", "result", "expected"),
    [
        (
            "%r = stablehlo.transpose %a0, dims = [1, 0] : "
            "(tensor<2x3xf32>) -> tensor<3x2xf32>",
            "tensor<3x2xf32>",
            X.T,
        ),
        (
            "%r = stablehlo.reshape %a0 : (tensor<2x3xf32>) -> tensor<3x2xf32>",
            "tensor<3x2xf32>",
            X.reshape(3, 2),
        ),
        (
            "%r = stablehlo.broadcast_in_dim %a0, dims = [2, 0] : "
            "(tensor<2x3xf32>) -> tensor<3x4x2xf32>",
            "tensor<3x4x2xf32>",
            np.stack([X.T] * 4, axis=1),
        ),
        (
            "%r = stablehlo.slice %a0 [0:2, 0:3:2] : "
            "(tensor<2x3xf32>) -> tensor<2x2xf32>",
            "tensor<2x2xf32>",
            X[:, ::2],
        ),
        (
            "%r = stablehlo.concatenate %a0, %a0, dim = 1 : "
            "(tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x6xf32>",
            "tensor<2x6xf32>",
            np.hstack([X, X]),
        ),
        (
            "%r = stablehlo.reverse %a0, dims = [1] : tensor<2x3xf32>",
            "tensor<2x3xf32>",
            X[:, ::-1],
        ),
        (
            "%z = stablehlo.constant dense<9.0> : tensor<f32>\n"
            "%r = stablehlo.pad %a0, %z, low = [1, -1], high = [0, 1], "
            "interior = [1, 0] : (tensor<2x3xf32>, tensor<f32>) -> tensor<4x3xf32>",
            "tensor<4x3xf32>",
            [[9, 9, 9], [1, 2, 9], [9, 9, 9], [4, 5, 9]],
        ),
        (
            "%r = stablehlo.iota dim = 1 : tensor<2x3xi32>",
            "tensor<2x3xi32>",
            [[0, 1, 2], [0, 1, 2]],
        ),
        (
            "%r = stablehlo.compare GE, %a0, %a0 : "
            "(tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xi1>",
            "tensor<2x3xi1>",
            np.full((2, 3), True),
        ),
        (
            "%r = stablehlo.convert %a0 : (tensor<2x3xf32>) -> tensor<2x3xi1>",
            "tensor<2x3xi1>",
            X != 0,
        ),
        (
            "%lo = stablehlo.constant dense<1.0> : tensor<f32>\n"
            "%hi = stablehlo.constant dense<4.0> : tensor<f32>\n"
            "%r = stablehlo.clamp %lo, %a0, %hi : "
            "(tensor<f32>, tensor<2x3xf32>, tensor<f32>) -> tensor<2x3xf32>",
            "tensor<2x3xf32>",
            np.clip(X, 1, 4),
        ),
    ],
    ids=lambda value: value.split()[2] if " = " in str(value) else "",
)
def test_shape_ops(body, result, expected):
    np.testing.assert_array_equal(of_x(body, result), expected)


@pytest.mark.parametrize(
    ("reducer", "initial", "expected"),
    [
        ("add", "1.0", [4.0, 13.0]),
        ("multiply", "2.0", [0.0, 120.0]),
        ("maximum", "0xFF800000", [2.0, 5.0]),
        ("minimum", "0x7F800000", [0.0, 3.0]),
    ],
)
def test_reduce(reducer, initial, expected):
    body = f"""%z = stablehlo.constant dense<{initial}> : tensor<f32>
    %r = stablehlo.reduce(%a0 init: %z) applies stablehlo.{reducer}
      across dimensions = [1] : (tensor<2x3xf32>, tensor<f32>) -> tensor<2xf32>"""
    assert of_x(body, "tensor<2xf32>").tolist() == expected


def test_dot_general_with_a_batch():
    random = np.random.default_rng(0)
    a, b = random.normal(size=(2, 3, 4)), random.normal(size=(5, 4, 2))
    body = """%r = stablehlo.dot_general %a0, %a1, batching_dims = [0] x [2],
      contracting_dims = [2] x [1]
      : (tensor<2x3x4xf32>, tensor<5x4x2xf32>) -> tensor<2x3x5xf32>"""
    types = ["tensor<2x3x4xf32>", "tensor<5x4x2xf32>"]
    got = run(body, "tensor<2x3x5xf32>", a, b, types=types)
    for n in range(2):
        np.testing.assert_allclose(got[n], a[n] @ b[:, :, n].T)


def test_select_never_multiplies():
    body = """%c = stablehlo.compare EQ, %a0, %a0
      : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xi1>
    %z = stablehlo.constant dense<0.0> : tensor<2xf32>
    %r = stablehlo.select %c, %a0, %z : tensor<2xi1>, tensor<2xf32>"""
    kind = "tensor<2xf32>"
    assert run(body, kind, [np.nan, 1.0], types=[kind]).tolist() == [0.0, 1.0]


def test_map_runs_on_whole_arrays_and_keeps_constants():
    body = """%r:2 = "moe.map"(%a0) ({
    ^bb0(%x: tensor<f32>):
      %one = stablehlo.constant dense<1.0> : tensor<f32>
      %b = stablehlo.broadcast_in_dim %x, dims = [] : (tensor<f32>) -> tensor<f32>
      %t = stablehlo.tanh %b : tensor<f32>
      "moe.yield"(%t, %one) : (tensor<f32>, tensor<f32>) -> ()
    }, {
    ^bb0(%x: tensor<f32>, %d: tensor<f32>, %e: tensor<f32>):
      "moe.yield"(%d) : (tensor<f32>) -> ()
    }) {name = "tanh", results = ["float32", "float32"]}
      : (tensor<2x3xf32>) -> (tensor<2x3xf32>, tensor<2x3xf32>)"""
    got = of_x(body.replace("%r:2", "%r, %s"), "tensor<2x3xf32>")
    np.testing.assert_allclose(got, np.tanh(X))
    got = of_x(body.replace("%r:2", "%s, %r"), "tensor<2x3xf32>")
    np.testing.assert_array_equal(got, np.ones((2, 3)))


def test_map_may_use_a_constant_from_outside():
    body = """%k = stablehlo.constant dense<3.0> : tensor<f32>
    %r = "moe.map"(%a0) ({
    ^bb0(%x: tensor<f32>):
      %t = stablehlo.multiply %x, %k : tensor<f32>
      "moe.yield"(%t) : (tensor<f32>) -> ()
    }) {name = "triple", results = ["float32"]}
      : (tensor<2x3xf32>) -> tensor<2x3xf32>"""
    np.testing.assert_array_equal(of_x(body, "tensor<2x3xf32>"), 3 * X)


def test_warnings_are_silent():
    body = """%l = stablehlo.log %a0 : tensor<2x3xf32>
    %r = stablehlo.divide %l, %a0 : tensor<2x3xf32>"""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = of_x(body, "tensor<2x3xf32>")
    assert got[0, 0] == -np.inf


def test_an_op_without_a_rule_is_named():
    body = "%r = stablehlo.cholesky %a0 : tensor<2x2xf32>"
    with pytest.raises(IllegalIR, match=r"stablehlo\.cholesky is not legal when"):
        run(body, "tensor<2x2xf32>", np.eye(2), types=["tensor<2x2xf32>"])


def test_a_reduction_by_another_op_is_refused():
    body = """%z = stablehlo.constant dense<0> : tensor<i32>
    %r = stablehlo.reduce(%a0 init: %z) applies stablehlo.xor
      across dimensions = [0] : (tensor<2xi32>, tensor<i32>) -> tensor<i32>"""
    with pytest.raises(IllegalIR, match=r"and its region holds stablehlo\.xor"):
        run(body, "tensor<i32>", np.ones(2, np.int32), types=["tensor<2xi32>"])
