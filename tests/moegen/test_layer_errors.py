"""Errors of a layer: the user's own line, the numbers, and what to do."""

import pytest

from ir import errors
from moegen.layers import find_layer
from moegen.trace import trace
from tests.moegen.layer_text import holds, refusal, written

# Each case edits lines of LAYER; the line that ends in "# here" is the one to blame.
CASES = {
    "unknown axis": (
        {'"experts model hidden")': '"experts model hiden")  # here'},
        errors.UnknownAxis,
        ["parameter 'wi'", "axis 'hiden'", "tokens, model, hidden", "correct the name"],
    ),
    "unknown axis of an initialiser": (
        {
            'wi = param("wi", "experts model hidden")': "from moegen.initializers import "
            'fan_in; wi = param("wi", "experts model hidden", fan_in("modl"))  # here'
        },
        errors.UnknownAxis,
        ["initialiser of 'wi'", "axis 'modl'"],
    ),
    "unknown axis of an input": (
        {
            'x=tensor("tokens model")': 'x=tensor("token model")',
            "def layer(": "def layer(  # here",
        },
        errors.UnknownAxis,
        ["input 'x'", "axis 'token'", "tokens, model"],
    ),
    "shape mismatch of a product": (
        {
            "inner, wo": "inner, wi",
            "return combine": "return combine",
            "choice))": "choice))  # here",
        },
        errors.ShapeMismatch,
        [
            "expert_matmul takes rows of width 4",
            "f32[16,6]",
            "wi (experts=3, model=4, hidden=6) f32[3,4,6]",
        ],
    ),
    "shape mismatch of a dense product": (
        {"matmul(x, router))": "matmul(router, x))  # here"},
        errors.ShapeMismatch,
        [
            "matmul takes an input of width 8",
            "x (tokens=8, model=4) f32[8,4]",
            "f32[4,3]",
            "first axis must be 3",
        ],
    ),
    "shape mismatch of gates": (
        {"take(scores, choice))": "scores)  # here"},
        errors.ShapeMismatch,
        ["combine takes one number per choice [8, 2]", "f32[8,3]", "same tokens and k"],
    ),
    "rank mismatch of expert weights": (
        {
            'wi = param("wi", "experts model hidden")': 'wi = param("wi", "model hidden")',
            "(rows, wi))": "(rows, wi))  # here",
        },
        errors.RankMismatch,
        ["expert_matmul takes", "[experts, in, out]", "f32[4,6]", "with 2 axes"],
    ),
    "rank mismatch of dense weights": (
        {"matmul(x, router))": "matmul(x, wi))  # here"},
        errors.RankMismatch,
        [
            "matmul takes weights [in, out]",
            "wi (experts=3",
            "with 3 axes",
            "[width in, width out]",
        ],
    ),
    "rank mismatch of scores": (
        {"top_k(scores, 2)": "top_k(scores[0], 2)  # here"},
        errors.RankMismatch,
        [
            "top_k takes scores [tokens, experts]",
            "f32[3]",
            "with 1 axes",
            "one row of scores",
        ],
    ),
    "rank mismatch of tokens": (
        {"dispatch(x, kept)": "dispatch(x[:, 0], kept)  # here"},
        errors.RankMismatch,
        ["dispatch takes tokens [tokens, width]", "f32[8]", "one row per token"],
    ),
    "k above the experts": (
        {"top_k(scores, 2)": "top_k(scores, 4)  # here"},
        errors.TooManyChoices,
        ["k=4 of 3 experts", "at most the number of experts"],
    ),
    "k of zero": (
        {"top_k(scores, 2)": "top_k(scores, 0)  # here"},
        errors.TooFewChoices,
        ["k=0", "k >= 1"],
    ),
    "capacity not positive": (
        {"capacity(tokens, experts, factor)": "0", "choice, 0)": "choice, 0)  # here"},
        errors.CapacityNotPositive,
        [
            "the capacity is 0 rows per expert",
            "must be positive",
            "leave the capacity out",
        ],
    ),
    "capacity factor not positive": (
        {"experts, factor))": "experts, -1.0))  # here"},
        errors.CapacityNotPositive,
        ["the capacity is -2.66667 rows per expert", "raise the capacity factor"],
    ),
    "capacity below one row": (
        {"experts, factor))": "experts, 0.25))  # here"},
        errors.CapacityBelowOneRow,
        ["8 tokens a group x factor 0.25 / 3 experts = 0.667", "at least 0.375"],
    ),
    "capacity above the tokens": (
        {"top_k(scores, 2)": "expert_choice(scores, 9)  # here"},
        errors.CapacityTooLarge,
        ["the capacity is 9 rows", "the 8 tokens", "at most 8"],
    ),
    "groups that do not divide the tokens": (
        {"experts, factor))": "experts, factor, 3))  # here"},
        errors.GroupsDoNotDivide,
        ["8 tokens cannot be split into 3 equal groups", "use 2 or 4 groups"],
    ),
    "groups of assign": (
        {"factor))": "factor), groups=5)  # here"},
        errors.GroupsDoNotDivide,
        ["8 tokens cannot be split into 5 equal groups", "use 4 or 8 groups"],
    ),
    "groups below one": (
        {"factor))": "factor), groups=0)  # here"},
        errors.GroupsDoNotDivide,
        ["8 tokens cannot be split into 0 equal groups", "use 1"],
    ),
    "a priority that is none": (
        {"factor))": 'factor), priority="first")  # here'},
        errors.ShapeMismatch,
        ["assign takes a priority of choice or token", "'first'"],
    ),
    "gated expert with unequal halves": (
        {
            "router = param(": 'wg = param("wg", "experts model other"); router = param(',
            "(rows, wi))": "(rows, wi)) * expert_matmul(rows, wg)  # here",
        },
        errors.UnequalHalves,
        ["element by element", "[16,6] against [16,5]", "same last axis"],
    ),
    "activation that runs along the width": (
        {
            "jax.nn.relu(expert_matmul(rows, wi))": "jnp.cumsum(expert_matmul(rows, wi), axis=-1)  # here"
        },
        errors.NotElementwise,
        [
            "cumsum is applied to rows",
            "not elementwise: it uses 'cumsum'",
            "every element alone",
        ],
    ),
    "activation that reduces the width": (
        {
            "jax.nn.relu(expert_matmul(rows, wi))": "jax.nn.softmax(expert_matmul(rows, wi))  # here"
        },
        errors.NotElementwise,
        ["not elementwise: it uses 'reduce_max'"],
    ),
    "activation that reduces by hand": (
        {
            "jax.nn.relu(expert_matmul(rows, wi))": "(lambda h: h - jnp.mean(h, axis=-1, keepdims=True))"
            "(expert_matmul(rows, wi))  # here"
        },
        errors.NotElementwise,
        ["not elementwise: it uses 'reduce_sum'"],
    ),
    "activation with an array of its own": (
        {
            "jax.nn.relu(expert_matmul(rows, wi))": "expert_matmul(rows, wi) * jnp.arange(6.0)  # here"
        },
        errors.RowsMeetOthers,
        ["mul mixes rows of experts with f32[1,6]", "expert_bias"],
    ),
    "rows that are transposed": (
        {
            "jax.nn.relu(expert_matmul(rows, wi))": "expert_matmul(rows, wi)[::-1]  # here"
        },
        errors.NotElementwise,
        ["not elementwise: it uses 'rev'"],
    ),
    "integer activations": (
        {
            "jax.nn.relu(expert_matmul(rows, wi))": "jnp.rint(expert_matmul(rows, wi)).astype(int)",
            "(inner, wo), take(scores, choice))": "(inner, wo), take(scores, choice))  # here",
        },
        errors.IntegerActivation,
        [
            "expert_matmul takes floating-point rows, and got i32[16,6]",
            ".astype before",
        ],
    ),
    "integer tokens": (
        {
            'x=tensor("tokens model")': 'ids=tensor("tokens model", dtype="int32"), '
            'x=tensor("tokens model")',
            "dispatch(x, kept)": "dispatch(ids, kept)  # here",
        },
        errors.IntegerActivation,
        ["dispatch takes floating-point rows", "ids (tokens=8, model=4) i32[8,4]"],
    ),
    "two parameters of one name": (
        {
            'wo = param("wo"': 'wo = param("wi"',
            'hidden model")': 'hidden model")  # here',
        },
        errors.DuplicateParameter,
        ["'wi' is declared twice, here and at layer.py:12", "its own name"],
    ),
    "two metrics of one name": (
        {
            "rows = dispatch": 'metric("m", choice)\n    metric("m", choice)  # here\n    rows = dispatch'
        },
        errors.DuplicateResult,
        ["metric 'm' is recorded twice", "layer.py:17"],
    ),
    "a loss that is no scalar": (
        {"rows = dispatch": 'loss("l", scores)  # here\n    rows = dispatch'},
        errors.ShapeMismatch,
        ["loss 'l' takes a scalar", "f32[8,3]", "sum it"],
    ),
    "combine without dispatch": (
        {
            "return combine(expert_matmul(inner, wo), take(scores, choice))": "return combine(x)  # here"
        },
        errors.CombineWithoutDispatch,
        [
            "combine takes rows that dispatch sent to experts",
            "f32[8,4]",
            "call dispatch(x, choice) first",
        ],
    ),
    "expert_matmul without dispatch": (
        {"(rows, wi))": "(x, wi))  # here"},
        errors.CombineWithoutDispatch,
        ["expert_matmul takes rows that dispatch sent", "f32[8,4]"],
    ),
    "rows of two dispatches": (
        {
            "inner = jax": "others = dispatch(x, top_k(1.0 - scores, 2))\n    inner = jax",
            "(rows, wi))": "(rows, wi)) + expert_matmul(others, wi)  # here",
        },
        errors.MixedDispatches,
        ["layer.py:17", "layer.py:18", "rows of their own dispatch"],
    ),
    "unused product": (
        {"inner = jax": "expert_matmul(rows, wi)  # here\n    inner = jax"},
        errors.UnusedResult,
        ["the result of expert_matmul is never used", "delete the line"],
    ),
    "unused parameter": (
        {
            "router = param(": 'spare = param("spare", "model other")  # here\n    router = param('
        },
        errors.UnusedResult,
        ["the result of param 'spare' is never used"],
    ),
    "unused choice": (
        {"kept = assign": "again = top_k(scores, 1)  # here\n    kept = assign"},
        errors.UnusedResult,
        ["the result of top_k is never used"],
    ),
    "a layer that raises": (
        {"rows = dispatch": 'raise KeyError("of my own")  # here\n    rows = dispatch'},
        errors.LayerRaised,
        ["the layer 'layer' raised KeyError: 'of my own'"],
    ),
    "a layer that looks at values": (
        {"rows = dispatch": "assert x[0, 0] > 0  # here\n    rows = dispatch"},
        errors.ValueUnknown,
        ["the layer 'layer' asks for the value of a tensor", "jnp.where instead of if"],
    ),
    "shapes that do not meet": (
        {"softmax(matmul(x, router))": "softmax(matmul(x, router) + x)  # here"},
        errors.LayerRaised,
        ["raised TypeError", "(8, 3)", "(8, 4)"],
    ),
    "a function that a layer cannot contain": (
        {"softmax(matmul(x, router))": "softmax(jnp.sort(matmul(x, router)))  # here"},
        errors.UnsupportedFunction,
        ["sort uses 'sort', which a layer cannot contain"],
    ),
    "a choice of the user's own without experts": (
        {
            "choice = top_k(scores, 2)": "choice = jnp.zeros((8, 2), jnp.int32)",
            "factor))": "factor))  # here",
        },
        errors.ShapeMismatch,
        ["assign takes a choice made by top_k", "i32[8,2]"],
    ),
    "a choice that is not whole numbers": (
        {"dispatch(x, kept)": "dispatch(x, scores, experts=3)  # here"},
        errors.DtypeMismatch,
        ["dispatch takes an int32 choice [tokens, k]", "f32[8,3]"],
    ),
    "no tensor returned": (
        {"return combine": "return 1, combine", "def layer(": "def layer(  # here"},
        errors.NotALayer,
        ["'layer' must return one tensor, and returned tuple"],
    ),
    "an argument that is neither": (
        {
            'x=tensor("tokens model")': "y, x=tensor('tokens model')",
            "def layer(": "def layer(  # here",
        },
        errors.NotALayer,
        [
            "the argument 'y'",
            "neither tensor nor size",
            'y=tensor("tokens model")',
            "after a *",
        ],
    ),
    "no tensor taken": (
        {'x=tensor("tokens model"),\n': "", "def layer(": "def layer(  # here"},
        errors.NotALayer,
        ["takes no tensor", 'x=tensor("tokens model")'],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_layer_is_refused_at_its_own_line(case, tmp_path):
    edits, kind, parts = CASES[case]
    name, line = written(tmp_path, edits)
    text = refusal(kind, lambda: trace(find_layer(name)))
    holds(text, [f"layer.py:{line}: ", *parts])


@pytest.mark.smoke
def test_the_layer_of_these_tests_is_right(tmp_path):
    name, _ = written(tmp_path, {})
    assert trace(find_layer(name)) is not None
