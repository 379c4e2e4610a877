"""Canonicalize: what it folds, merges and drops, and what it must keep."""

import jax
import jax.numpy as jnp
import pytest

from ir import mlir
from ir.pipeline import make_pass, run_passes
from moegen import lang as moe
from moegen.trace import trace


def canonical(text: str) -> mlir.Module:
    return run_passes(
        mlir.parse(text), [make_pass("canonicalize", {})], lambda *_: None
    )


def region(body: str, kind: str = "f32", result: str = "f32") -> str:
    """A function of one map over %x, with `body` as its scalar ops up to %r."""
    dtype = {"f32": "float32", "i32": "int32", "i1": "bool"}[result]
    return f"""func.func @forward(%x: tensor<4x{kind}>) -> tensor<4x{result}> {{
      %y = "moe.map"(%x) ({{
        ^bb0(%s: tensor<{kind}>):
          {body}
          "moe.yield"(%r) : (tensor<{result}>) -> ()
      }}, {{}}) {{name = "f", results = ["{dtype}"]}}
        : (tensor<4x{kind}>) -> tensor<4x{result}>
      func.return %y : tensor<4x{result}> }}"""


def scalars(module: mlir.Module) -> list[str]:
    """The scalar ops that are left, constants with their values."""
    found = []
    for op in mlir.walk(module.body):
        name = op.operation.name.removeprefix("stablehlo.")
        if op.operation.parent.name != "moe.map" or name == "moe.yield":
            continue
        value = mlir.attributes(op).get("value")
        found.append(name if value is None else f"{mlir.attribute_value(value):g}")
    return found


def names(module: mlir.Module, function: str = "forward") -> list[str]:
    body = mlir.entry(mlir.functions(module)[function])
    return [op.operation.name for op in body.operations]


CONSTANTS = """
%a = stablehlo.constant dense<{}> : tensor<f32>
%b = stablehlo.constant dense<{}> : tensor<f32>"""


@pytest.mark.parametrize(
    ("op", "a", "b", "value"),
    [
        ("add", "2.0", "0.5", "2.5"),
        ("divide", "1.0", "4.0", "0.25"),
        ("maximum", "-3.0", "-4.0", "-3"),
        ("divide", "1.0", "0.0", "inf"),
        ("power", "2.0", "10.0", "1024"),
    ],
)
def test_constants_fold(op, a, b, value):
    body = (
        CONSTANTS.format(a, b)
        + f"""
      %c = stablehlo.{op} %a, %b : tensor<f32>
      %r = stablehlo.subtract %s, %c : tensor<f32>"""
    )
    assert scalars(canonical(region(body))) == [value, "subtract"]


def test_integers_fold_as_integers():
    body = """%a = stablehlo.constant dense<-7> : tensor<i32>
      %b = stablehlo.constant dense<2> : tensor<i32>
      %c = stablehlo.divide %a, %b : tensor<i32>
      %r = stablehlo.subtract %s, %c : tensor<i32>"""
    assert scalars(canonical(region(body, "i32", "i32"))) == ["-3", "subtract"]


def test_a_predicate_folds_in_the_dtype_of_its_operand():
    infinity = "stablehlo.constant dense<0x7F800000> : tensor<f32>"
    body = f"""%a = {infinity}
      %c = stablehlo.is_finite %a : (tensor<f32>) -> tensor<i1>
      %d = stablehlo.is_finite %s : (tensor<f32>) -> tensor<i1>
      %r = stablehlo.xor %d, %c : tensor<i1>"""
    left = scalars(canonical(region(body, "f32", "i1")))
    assert "0" in left
    assert "1" not in left


def test_neutral_constants_go_and_others_stay():
    body = (
        CONSTANTS.format("1.0", "0.0")
        + """
      %c = stablehlo.multiply %s, %a : tensor<f32>
      %d = stablehlo.add %b, %c : tensor<f32>
      %e = stablehlo.add %d, %a : tensor<f32>
      %f = stablehlo.multiply %e, %b : tensor<f32>
      %r = stablehlo.subtract %f, %b : tensor<f32>"""
    )
    # x * 0 stays: it is NaN where x is.
    left = scalars(canonical(region(body)))
    assert sorted(left) == ["0", "1", "add", "multiply", "subtract"]


def test_equal_scalar_ops_merge_and_unlike_ones_do_not():
    body = """%a = stablehlo.exponential %s : tensor<f32>
      %b = stablehlo.exponential %s : tensor<f32>
      %c = stablehlo.add %a, %b : tensor<f32>
      %d = stablehlo.compare GT, %c, %s : (tensor<f32>, tensor<f32>) -> tensor<i1>
      %e = stablehlo.compare LT, %c, %s : (tensor<f32>, tensor<f32>) -> tensor<i1>
      %r = stablehlo.and %d, %e : tensor<i1>"""
    left = scalars(canonical(region(body, "f32", "i1")))
    assert left == ["exponential", "add", "compare", "compare", "and"]


CHOICES = """
func.func @forward(%s: tensor<6x4xf32>, %x: tensor<6x4xf32>)
    -> (tensor<6x2xi32>, tensor<6x2xi32>, tensor<6x1xi32>) {
  %a = "moe.top_k"(%s) {k = 2 : i64} : (tensor<6x4xf32>) -> tensor<6x2xi32>
  %b = "moe.top_k"(%s) {k = 2 : i64} : (tensor<6x4xf32>) -> tensor<6x2xi32>
  %c = "moe.top_k"(%s) {k = 1 : i64} : (tensor<6x4xf32>) -> tensor<6x1xi32>
  %d = "moe.top_k"(%x) {k = 2 : i64} : (tensor<6x4xf32>) -> tensor<6x2xi32>
  %e = "moe.softmax"(%x) : (tensor<6x4xf32>) -> tensor<6x4xf32>
  func.return %a, %b, %c : tensor<6x2xi32>, tensor<6x2xi32>, tensor<6x1xi32>
}"""


def test_equal_ops_merge_and_unused_ones_go():
    module = canonical(CHOICES)
    assert names(module) == ["moe.top_k", "moe.top_k", "func.return"]
    *_, last = mlir.entry(mlir.functions(module)["forward"]).operations
    first, second, third = last.operation.operands
    assert first == second
    assert first != third


def test_a_chain_that_nobody_uses_goes_at_once():
    text = CHOICES.replace("func.return %a, %b, %c", "func.return %d, %d, %c")
    text = text.replace('"moe.softmax"(%x)', '"moe.softmax"(%s)')
    assert names(canonical(text)) == ["moe.top_k", "moe.top_k", "func.return"]


def test_an_unused_result_of_a_map_goes_with_its_ops():
    text = """func.func @forward(%x: tensor<4xf32>) -> tensor<4xf32> {
      %y:2 = "moe.map"(%x) ({
        ^bb0(%s: tensor<f32>):
          %a = stablehlo.exponential %s : tensor<f32>
          %b = stablehlo.tanh %s : tensor<f32>
          "moe.yield"(%a, %b) : (tensor<f32>, tensor<f32>) -> ()
      }, {}) {name = "f", results = ["float32", "float32"]}
        : (tensor<4xf32>) -> (tensor<4xf32>, tensor<4xf32>)
      func.return %y#1 : tensor<4xf32> }"""
    assert scalars(canonical(text)) == ["tanh"]


def test_a_map_of_nothing_is_its_operand():
    left = names(canonical(region("%r = stablehlo.add %s, %s : tensor<f32>")))
    assert left == ["moe.map", "func.return"]
    same = region("").replace("%r", "%s")
    assert names(canonical(same)) == ["func.return"]


def dispatched(
    x=moe.tensor("tokens model"), *, tokens: int, model: int, wider: bool = True
):
    w = moe.param("w", "model model")
    choice = moe.top_k(moe.matmul(x, w), 1)
    other = jnp.float32 if wider else jnp.bfloat16
    rows = moe.dispatch(x.astype(other), choice)
    return moe.combine(rows.astype(jnp.float32))


@pytest.mark.parametrize("wider", [False, True])
def test_rows_are_fetched_in_the_narrower_dtype_and_keep_their_gradient(wider):
    dtype = "bfloat16" if wider else "float32"
    traced = trace(dispatched, dtype, tokens=6, model=4, wider=wider)
    module = canonical(mlir.print_module(traced))
    (fetch,) = [o for o in mlir.walk(module.body) if o.operation.name == "moe.dispatch"]
    assert str(fetch.operation.operands[0].type) == "tensor<6x4xbf16>"
    steps = [make_pass("derive-backward", {})]
    derived = run_passes(module, steps, lambda *_: None)
    assert "moe.combine" in names(derived, "backward")


def test_a_second_run_changes_nothing():
    def layer(x: jax.Array = moe.tensor("tokens model"), *, tokens: int, model: int):
        return jax.nn.gelu(x) * (1.0 * x + 0.0) / jnp.exp2(x)

    once = canonical(mlir.print_module(trace(layer, tokens=3, model=2)))
    assert mlir.print_module(canonical(mlir.print_module(once))) == mlir.print_module(
        once
    )
