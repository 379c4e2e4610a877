"""The interpreter's dialect `moe`, against answers worked out by hand."""

import numpy as np
import pytest

from ir import mlir
from ir.errors import BadArgument, ExpertOutOfRange, IllegalIR
from ir.interpret import interpret

NAN, INF = float("nan"), float("inf")


def run(op, *arguments, types):
    """Run one op `op`, a format over %0, %1, ... of `types`, `(...) -> result`."""
    inputs, result = types.split(" -> ")
    kinds = [t.strip() for t in inputs.strip("()").split(", ")]
    names = ", ".join(f"%a{i}: {kind}" for i, kind in enumerate(kinds))
    uses = ", ".join(f"%a{i}" for i in range(len(kinds)))
    name, _, attributes = op.partition(" ")
    text = f"""
    func.func @forward({names}) -> {result} {{
      %r = "{name}"({uses}) {attributes} : {types}
      func.return %r : {result}
    }}"""
    return interpret(mlir.parse(text), "forward", [np.asarray(a) for a in arguments])


def one(op, *arguments, types):
    return run(op, *arguments, types=types).results[0]


# The routing of the tests below: 4 tokens, 2 choices, 4 experts; expert 1 has no row.
CHOICE = np.array([[2, 0], [-1, 2], [3, 2], [-1, -1]], np.int32)
ORDER = [1, 0, 3, 5, 4]  # flat choices by (expert, flat choice)
FIVE = "(tensor<4x2xf32>, tensor<4x2xi32>) -> tensor<6x{}xf32>"


def test_softmax_rows_stand_alone():
    logits = [[0.0, np.log(3.0)], [NAN, 1.0], [1e300, 1e300]]
    got = one("moe.softmax", logits, types="(tensor<3x2xf32>) -> tensor<3x2xf32>")
    np.testing.assert_allclose(got[[0, 2]], [[0.25, 0.75], [0.5, 0.5]])
    assert np.isnan(got[1]).all()


def test_softmax_grad():
    types = "(tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x2xf32>"
    got = one("moe.softmax_grad", [[0.25, 0.75]], [[1.0, 2.0]], types=types)
    np.testing.assert_allclose(got, [[0.25 * -0.75, 0.75 * 0.25]])


def test_top_k_ties_take_the_lower_index_and_nan_ranks_first():
    scores = [[1.0, 3.0, 3.0, 2.0], [0.0, 0.0, -0.0, 0.0], [INF, 1.0, NAN, 2.0]]
    types = "(tensor<3x4xf32>) -> tensor<3x2xi32>"
    ran = run("moe.top_k {k = 2 : i64}", scores, types=types)
    assert ran.results[0].dtype == np.int32
    assert ran.results[0].tolist() == [[1, 2], [0, 1], [2, 0]]
    np.testing.assert_array_equal(ran.margins[0], [0.0, 0.0, INF])


def test_top_k_margin_is_the_least_gap_down_to_the_border():
    scores = [[9.0, 7.0, 6.5, 6.4], [1.0, 0.9, 0.5, 0.4]]
    types = "(tensor<2x4xf32>) -> tensor<2x{}xi32>"
    ran = run("moe.top_k {k = 2 : i64}", scores, types=types.format(2))
    np.testing.assert_allclose(ran.margins[0], [0.5, 0.1])
    ran = run("moe.top_k {k = 4 : i64}", scores, types=types.format(4))
    np.testing.assert_allclose(ran.margins[0], [0.1, 0.1])


def test_one_expert_has_no_rival():
    types = "(tensor<2x1xf32>) -> tensor<2x1xi32>"
    ran = run("moe.top_k {k = 1 : i64}", [[1.0], [2.0]], types=types)
    np.testing.assert_array_equal(ran.margins[0], [INF, INF])


def test_expert_choice_ties_take_the_lower_token():
    scores = [[1.0, 0.0], [2.0, 5.0], [1.0, 4.5]]
    types = "(tensor<3x2xf32>) -> tensor<3x2xi32>"
    ran = run("moe.expert_choice {capacity = 2 : i64}", scores, types=types)
    assert ran.results[0].tolist() == [[0, -1], [0, 1], [-1, 1]]
    assert ran.margins[0] == 0.0
    ran = run("moe.expert_choice {capacity = 1 : i64}", scores, types=types)
    assert ran.margins[0] == 0.5
    ran = run("moe.expert_choice {capacity = 3 : i64}", scores, types=types)
    assert ran.margins[0] == INF


def test_hash_wraps_at_32_bits():
    ids = np.array([0, 1, -1, 2**31 - 1], np.int32)
    types = "(tensor<4xi32>) -> tensor<4x2xi32>"
    op = "moe.hash {experts = 7 : i64, k = 2 : i64, seed = 5 : i64}"
    wide = ids.astype(np.uint32)[:, None] * np.uint32(2654435761)
    mixed = wide + np.array([5 * 40503, 6 * 40503], np.uint32)
    assert one(op, ids, types=types).tolist() == ((mixed >> 8) % 7).tolist()


def test_take_and_put_skip_what_was_dropped():
    scores = np.arange(16.0).reshape(4, 4)
    scores[3] = NAN
    types = "(tensor<4x4xf32>, tensor<4x2xi32>) -> tensor<4x2xf32>"
    got = one("moe.take", scores, CHOICE, types=types)
    assert got.tolist() == [[2, 0], [0, 6], [11, 10], [0, 0]]
    values = np.array([[1.0, 2], [NAN, 4], [5, 6], [NAN, NAN]])
    types = "(tensor<4x2xf32>, tensor<4x2xi32>) -> tensor<4x4xf32>"
    got = one("moe.put {experts = 4 : i64}", values, CHOICE, types=types)
    expected = [[2, 0, 1, 0], [0, 0, 4, 0], [0, 0, 6, 5], [0, 0, 0, 0]]
    assert got.tolist() == expected


def test_put_adds_repeated_choices():
    types = "(tensor<1x2xf32>, tensor<1x2xi32>) -> tensor<1x2xf32>"
    choice = np.array([[1, 1]], np.int32)
    got = one("moe.put {experts = 2 : i64}", [[1.0, 2.0]], choice, types=types)
    assert got.tolist() == [[0, 3]]


@pytest.mark.parametrize(
    ("priority", "groups", "expected"),
    [
        # First choices 0, 0, 1 fill expert 0; token 0's second fills expert 1.
        ("choice", 1, [[0, 1], [0, -1], [1, -1], [-1, -1]]),
        ("token", 1, [[0, 1], [0, 1], [-1, -1], [-1, -1]]),
        ("choice", 2, [[0, 1], [0, 1], [1, 0], [-1, 1]]),
    ],
)
def test_assign(priority, groups, expected):
    choice = np.array([[0, 1], [0, 1], [1, 0], [-1, 1]], np.int32)
    op = (
        "moe.assign {experts = 2 : i64, capacity = 2 : i64, "
        f'groups = {groups} : i64, priority = "{priority}"}}'
    )
    types = "(tensor<4x2xi32>) -> tensor<4x2xi32>"
    assert one(op, choice, types=types).tolist() == expected


def test_count_by_group():
    types = "(tensor<4x2xi32>) -> tensor<2x4xi32>"
    op = "moe.count {experts = 4 : i64, groups = 2 : i64}"
    assert one(op, CHOICE, types=types).tolist() == [[1, 0, 2, 0], [0, 0, 1, 1]]


def test_dispatch_orders_by_expert_then_flat_choice():
    x = np.arange(8.0).reshape(4, 2)
    x[3] = NAN
    op = "moe.dispatch {experts = 4 : i64, rows = 6 : i64}"
    got = one(op, x, CHOICE, types=FIVE.format(2))
    assert got.tolist() == [[0, 1], [0, 1], [2, 3], [4, 5], [4, 5], [0, 0]]
    assert got.dtype == np.float64


def test_choices_go_to_rows_and_back():
    values = np.arange(8.0).reshape(4, 2)
    op = "moe.dispatch_choices {experts = 4 : i64, rows = 6 : i64}"
    rows = one(op, values, CHOICE, types=FIVE.format(1))
    assert rows[:, 0].tolist() == [*ORDER, 0]
    rows[5] = NAN
    types = "(tensor<6x1xf32>, tensor<4x2xi32>) -> tensor<4x2xf32>"
    back = one("moe.collect {experts = 4 : i64}", rows, CHOICE, types=types)
    assert back.tolist() == [[0, 1], [0, 3], [4, 5], [0, 0]]


@pytest.mark.parametrize("transposed", [False, True])
def test_expert_matmul(transposed):
    random = np.random.default_rng(0)
    rows, weights = random.normal(size=(6, 2)), random.normal(size=(4, 2, 3))
    rows[5] = NAN
    shape = "4x3x2" if transposed else "4x2x3"
    given = weights.transpose(0, 2, 1) if transposed else weights
    types = f"(tensor<6x2xf32>, tensor<{shape}xf32>, tensor<4x2xi32>)"
    op = f"moe.expert_matmul {{transposed = {str(transposed).lower()}}}"
    got = one(op, rows, given, CHOICE, types=types + " -> tensor<6x3xf32>")
    for row, expert in enumerate([0, 2, 2, 2, 3]):
        np.testing.assert_allclose(got[row], rows[row] @ weights[expert])
    assert got[5].tolist() == [0, 0, 0]


def test_sums_over_an_expert_are_zero_without_rows():
    random = np.random.default_rng(1)
    a, b = random.normal(size=(6, 2)), random.normal(size=(6, 3))
    a[5] = b[5] = NAN
    members = {0: [0], 1: [], 2: [1, 2, 3], 3: [4]}
    types = "(tensor<6x2xf32>, tensor<6x3xf32>, tensor<4x2xi32>) -> tensor<4x2x3xbf16>"
    op = 'moe.expert_outer {experts = 4 : i64, dtype = "bfloat16"}'
    got = one(op, a, b, CHOICE, types=types)
    types = "(tensor<6x3xf32>, tensor<4x2xi32>) -> tensor<4x3xf32>"
    sums = one(
        'moe.expert_sum {experts = 4 : i64, dtype = "float32"}', b, CHOICE, types=types
    )
    for expert, rows in members.items():
        outer = sum((np.outer(a[r], b[r]) for r in rows), np.zeros((2, 3)))
        np.testing.assert_allclose(got[expert], outer)
        np.testing.assert_allclose(sums[expert], b[rows].sum(axis=0))


def test_expert_bias_is_zero_past_the_last_row():
    types = "(tensor<4x1xf32>, tensor<4x2xi32>) -> tensor<6x1xf32>"
    bias = [[10.0], [NAN], [12.0], [13.0]]
    got = one("moe.expert_bias {rows = 6 : i64}", bias, CHOICE, types=types)
    assert got[:, 0].tolist() == [10, 12, 12, 12, 13, 0]


def test_row_dot():
    types = "(tensor<2x2xf32>, tensor<2x2xf32>) -> tensor<2x1xf32>"
    got = one("moe.row_dot", [[1.0, 2], [3, 4]], [[5.0, 6], [7, 8]], types=types)
    assert got.tolist() == [[17], [53]]


def test_combine_sums_over_k_in_order():
    rows = np.array([[1e16], [1.0], [10.0], [20.0], [NAN], [NAN]])
    gates = np.ones((4, 2))
    gates[1, 0] = gates[3] = NAN  # of dropped choices: no effect
    types = "(tensor<6x1xf32>, tensor<4x2xi32>, tensor<4x2xf32>) -> tensor<4x1xf32>"
    op = 'moe.combine {experts = 4 : i64, dtype = "float32"}'
    got = one(op, rows, CHOICE, gates, types=types)
    np.testing.assert_array_equal(got[:, 0], [1.0 + 1e16, 10, NAN, 0])
    types = "(tensor<6x1xf32>, tensor<4x2xi32>) -> tensor<4x1xf32>"
    np.testing.assert_array_equal(one(op, rows, CHOICE, types=types), got)


def test_combine_takes_the_first_choice_first():
    # (a + b) + c differs from any other order of these three numbers.
    choice = np.array([[2, 0, 1]], np.int32)
    rows = np.array([[-1e16], [1.0], [1e16]])
    types = "(tensor<3x1xf32>, tensor<1x3xi32>) -> tensor<1x1xf32>"
    op = 'moe.combine {experts = 3 : i64, dtype = "float32"}'
    assert one(op, rows, choice, types=types)[0, 0] == 1.0
    rows = np.array([[1.0], [-1e16], [1e16]])
    assert one(op, rows, choice, types=types)[0, 0] == 0.0


def test_an_id_out_of_range_is_named():
    types = "(tensor<4x4xf32>, tensor<4x2xi32>) -> tensor<4x2xf32>"
    with pytest.raises(ExpertOutOfRange, match=r"and 3, and 'choice' holds 4"):
        one("moe.take", np.zeros((4, 4)), np.full((4, 2), 4, np.int32), types=types)
    with pytest.raises(ExpertOutOfRange, match="holds -2"):
        one("moe.take", np.zeros((4, 4)), np.full((4, 2), -2, np.int32), types=types)


def test_too_many_rows_are_counted():
    op = "moe.dispatch {experts = 4 : i64, rows = 3 : i64}"
    types = "(tensor<4x2xf32>, tensor<4x2xi32>) -> tensor<3x2xf32>"
    with pytest.raises(IllegalIR, match=r"5 choices are kept, .* at most 3"):
        one(op, np.zeros((4, 2)), CHOICE, types=types)


def test_unknown_function_and_wrong_arguments():
    text = """func.func @forward(%x: tensor<2xf32>) -> tensor<2xf32> {
      func.return %x : tensor<2xf32>
    }"""
    module = mlir.parse(text)
    with pytest.raises(BadArgument, match=r"no function 'forwards'.*did you mean"):
        interpret(module, "forwards", [])
    with pytest.raises(BadArgument, match="takes 1 arguments, and got 0"):
        interpret(module, "forward", [])
    with pytest.raises(BadArgument, match=r"argument 0 .* f32\[2\], and got \[3\]"):
        interpret(module, "forward", [np.zeros(3)])
