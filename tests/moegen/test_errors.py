"""Every error of a layer: the user's own line, the numbers, and what to do."""

import os
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import moegen
from ir import errors
from ir.pipeline import make_pass, parse_passes
from moegen import cache, lang
from moegen.compiler import ALL_PASSES
from moegen.layers import find_layer
from moegen.trace import trace

LAYER = """\
import jax
import jax.numpy as jnp
from moegen.lang import *


def layer(
    x=tensor("tokens model"),
    *,
    tokens=8, model=4, hidden=6, experts=3, other=5, factor=2.0,
):
    router = param("router", "model experts")
    wi = param("wi", "experts model hidden")
    wo = param("wo", "experts hidden model")
    scores = softmax(matmul(x, router))
    choice = top_k(scores, 2)
    kept = assign(choice, capacity(tokens, experts, factor))
    rows = dispatch(x, kept)
    inner = jax.nn.relu(expert_matmul(rows, wi))
    return combine(expert_matmul(inner, wo), take(scores, choice))
"""

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
        {'x=tensor("tokens model")': 'x=tensor("token model")', "def layer(": "def layer(  # here"},
        errors.UnknownAxis,
        ["input 'x'", "axis 'token'", "tokens, model"],
    ),
    "shape mismatch of a product": (
        {"inner, wo": "inner, wi", "return combine": "return combine", "choice))": "choice))  # here"},
        errors.ShapeMismatch,
        ["expert_matmul takes rows of width 4", "f32[16,6]", "wi (experts=3, model=4, hidden=6) f32[3,4,6]"],
    ),
    "shape mismatch of a dense product": (
        {"matmul(x, router))": "matmul(router, x))  # here"},
        errors.ShapeMismatch,
        ["matmul takes an input of width 8", "x (tokens=8, model=4) f32[8,4]", "f32[4,3]", "first axis must be 3"],
    ),
    "shape mismatch of gates": (
        {"take(scores, choice))": "scores)  # here"},
        errors.ShapeMismatch,
        ["combine takes one number per choice [8, 2]", "f32[8,3]", "same tokens and k"],
    ),
    "rank mismatch of expert weights": (
        {'wi = param("wi", "experts model hidden")': 'wi = param("wi", "model hidden")',
         "(rows, wi))": "(rows, wi))  # here"},
        errors.RankMismatch,
        ["expert_matmul takes", "[experts, in, out]", "f32[4,6]", "with 2 axes"],
    ),
    "rank mismatch of dense weights": (
        {"matmul(x, router))": "matmul(x, wi))  # here"},
        errors.RankMismatch,
        ["matmul takes weights [in, out]", "wi (experts=3", "with 3 axes", "[width in, width out]"],
    ),
    "rank mismatch of scores": (
        {"top_k(scores, 2)": "top_k(scores[0], 2)  # here"},
        errors.RankMismatch,
        ["top_k takes scores [tokens, experts]", "f32[3]", "with 1 axes", "one row of scores"],
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
        ["the capacity is 0 rows per expert", "must be positive", "leave the capacity out"],
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
        {"router = param(": 'wg = param("wg", "experts model other"); router = param(',
         "(rows, wi))": "(rows, wi)) * expert_matmul(rows, wg)  # here"},
        errors.UnequalHalves,
        ["element by element", "[16,6] against [16,5]", "same last axis"],
    ),
    "activation that runs along the width": (
        {"jax.nn.relu(expert_matmul(rows, wi))": "jnp.cumsum(expert_matmul(rows, wi), axis=-1)  # here"},
        errors.NotElementwise,
        ["cumsum is applied to rows", "not elementwise: it uses 'cumsum'", "every element alone"],
    ),
    "activation that reduces the width": (
        {"jax.nn.relu(expert_matmul(rows, wi))": "jax.nn.softmax(expert_matmul(rows, wi))  # here"},
        errors.NotElementwise,
        ["not elementwise: it uses 'reduce_max'"],
    ),
    "activation that reduces by hand": (
        {"jax.nn.relu(expert_matmul(rows, wi))": "(lambda h: h - jnp.mean(h, axis=-1, keepdims=True))"
         "(expert_matmul(rows, wi))  # here"},
        errors.NotElementwise,
        ["not elementwise: it uses 'reduce_sum'"],
    ),
    "activation with an array of its own": (
        {"jax.nn.relu(expert_matmul(rows, wi))": "expert_matmul(rows, wi) * jnp.arange(6.0)  # here"},
        errors.NotElementwise,
        ["rows"],
    ),
    "rows that are transposed": (
        {"jax.nn.relu(expert_matmul(rows, wi))": "expert_matmul(rows, wi)[::-1]  # here"},
        errors.NotElementwise,
        ["not elementwise: it uses 'rev'"],
    ),
    "integer activations": (
        {"jax.nn.relu(expert_matmul(rows, wi))": "jnp.rint(expert_matmul(rows, wi)).astype(int)",
         "(inner, wo), take(scores, choice))": "(inner, wo), take(scores, choice))  # here"},
        errors.IntegerActivation,
        ["expert_matmul takes floating-point rows, and got i32[16,6]", ".astype before"],
    ),
    "integer tokens": (
        {'x=tensor("tokens model")': 'ids=tensor("tokens model", dtype="int32"), '
         'x=tensor("tokens model")', "dispatch(x, kept)": "dispatch(ids, kept)  # here"},
        errors.IntegerActivation,
        ["dispatch takes floating-point rows", "ids (tokens=8, model=4) i32[8,4]"],
    ),
    "two parameters of one name": (
        {'wo = param("wo"': 'wo = param("wi"', "hidden model\")": "hidden model\")  # here"},
        errors.DuplicateParameter,
        ["'wi' is declared twice, here and at layer.py:12", "its own name"],
    ),
    "two metrics of one name": (
        {"rows = dispatch": 'metric("m", choice)\n    metric("m", choice)  # here\n    rows = dispatch'},
        errors.DuplicateResult,
        ["metric 'm' is recorded twice", "layer.py:17"],
    ),
    "a loss that is no scalar": (
        {"rows = dispatch": 'loss("l", scores)  # here\n    rows = dispatch'},
        errors.ShapeMismatch,
        ["loss 'l' takes a scalar", "f32[8,3]", "sum it"],
    ),
    "combine without dispatch": (
        {"return combine(expert_matmul(inner, wo), take(scores, choice))": "return combine(x)  # here"},
        errors.CombineWithoutDispatch,
        ["combine takes rows that dispatch sent to experts", "f32[8,4]", "call dispatch(x, choice) first"],
    ),
    "expert_matmul without dispatch": (
        {"(rows, wi))": "(x, wi))  # here"},
        errors.CombineWithoutDispatch,
        ["expert_matmul takes rows that dispatch sent", "f32[8,4]"],
    ),
    "rows of two dispatches": (
        {"inner = jax": "others = dispatch(x, top_k(1.0 - scores, 2))\n    inner = jax",
         "(rows, wi))": "(rows, wi)) + expert_matmul(others, wi)  # here"},
        errors.MixedDispatches,
        ["layer.py:17", "layer.py:18", "rows of their own dispatch"],
    ),
    "unused product": (
        {"inner = jax": "expert_matmul(rows, wi)  # here\n    inner = jax"},
        errors.UnusedResult,
        ["the result of expert_matmul is never used", "delete the line"],
    ),
    "unused parameter": (
        {"router = param(": 'spare = param("spare", "model other")  # here\n    router = param('},
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
        errors.LayerRaised,
        ["the layer 'layer' raised TracerBoolConversionError"],
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
        {"choice = top_k(scores, 2)": "choice = jnp.zeros((8, 2), jnp.int32)",
         "factor))": "factor))  # here"},
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
        {'x=tensor("tokens model")': "y, x=tensor('tokens model')", "def layer(": "def layer(  # here"},
        errors.NotALayer,
        ["the argument 'y'", "neither tensor nor size", 'y=tensor("tokens model")', "after a *"],
    ),
    "no tensor taken": (
        {'x=tensor("tokens model"),\n': "", "def layer(": "def layer(  # here"},
        errors.NotALayer,
        ["takes no tensor", 'x=tensor("tokens model")'],
    ),
}  # fmt: skip


def written(folder: Path, edits: dict[str, str]) -> tuple[str, int | None]:
    text = LAYER
    for old, new in edits.items():
        assert old in text, old
        text = text.replace(old, new)
    path = folder / "layer.py"
    path.write_text(text, encoding="utf-8")
    lines = [n for n, line in enumerate(text.split("\n"), 1) if line.endswith("# here")]
    return f"{path}:layer", lines[0] if lines else None


def refusal(kind, call, *args, **named) -> str:
    with pytest.raises(kind) as caught:
        call(*args, **named)
    assert type(caught.value) is kind, caught.value
    text = str(caught.value)
    assert "Traceback" not in text
    assert "{" not in text
    return text


def holds(text: str, parts: list[str]) -> None:
    assert not [part for part in parts if part not in text], text


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


SIZES = {
    "missing": (
        {"tokens=8": "tokens"},
        {},
        errors.MissingSize,
        ["needs the size 'tokens'", "pass tokens=", "--set tokens="],
    ),
    "unknown, with the nearest": (
        {},
        {"expert": 4},
        errors.UnknownSize,
        [
            "no size 'expert'",
            "tokens, model, hidden, experts",
            "did you mean 'experts'?",
        ],
    ),
    "unknown, with none near": (
        {},
        {"zzz": 4},
        errors.UnknownSize,
        ["no size 'zzz'", "its sizes are tokens"],
    ),
    "not positive": (
        {'x=tensor("tokens model")': 'x=tensor("tokens model")'},
        {"model": 0},
        errors.SizeNotPositive,
        ["model=0", "positive whole number"],
    ),
    "negative": ({}, {"experts": -3}, errors.SizeNotPositive, ["experts=-3"]),
    "a fraction for a whole number": (
        {},
        {"tokens": 2.5},
        errors.WrongOptionType,
        [
            "tokens=2.5",
            "is a number",
            "default 8 is a whole number: pass a whole number",
        ],
    ),
    "text for a fraction": (
        {},
        {"factor": "big"},
        errors.WrongOptionType,
        ["factor=big", "is text", "default 2.0 is a number"],
    ),
    "truth for a whole number": (
        {},
        {"experts": True},
        errors.WrongOptionType,
        ["experts=True", "is True or False"],
    ),
    "a fraction for a size without a default": (
        {"tokens=8": "tokens"},
        {"tokens": 2.5},
        errors.SizeNotPositive,
        ["the size tokens=2.5 must be a positive whole number"],
    ),
}


@pytest.mark.parametrize("case", SIZES)
def test_sizes_are_checked(case, tmp_path):
    edits, given, kind, parts = SIZES[case]
    name, _ = written(tmp_path, edits)
    text = refusal(kind, lambda: trace(find_layer(name), **given))
    holds(text, parts)
    assert re.match(r"layer\.py:\d+: ", text), text
    assert "default None" not in text


def test_a_whole_number_will_do_for_a_fraction(tmp_path):
    name, _ = written(tmp_path, {})
    assert "factor = 3.0" in str(trace(find_layer(name), factor=3))


def test_a_dtype_that_is_none(tmp_path):
    name, _ = written(tmp_path, {})
    text = refusal(errors.BadArgument, lambda: trace(find_layer(name), "float33"))
    holds(
        text,
        ["no layer of dtype 'float33'", "float32, bfloat16", "did you mean 'float3"],
    )


def test_outside_a_layer():
    text = refusal(errors.OutsideLayer, lang.softmax, jnp.ones((2, 3)))
    holds(
        text,
        ["test_errors.py:", "moegen.lang.softmax was called outside", "moegen.compile"],
    )
    text = refusal(errors.OutsideLayer, lang.param, "w", "a b")
    holds(text, ["moegen.lang.param was called outside a layer"])


def test_what_is_no_function():
    text = refusal(errors.NotALayer, trace, 3)
    holds(text, ["a layer is a function, and this is 3"])


def test_unknown_target(tmp_path):
    name, _ = written(tmp_path, {})
    text = refusal(errors.UnknownTarget, moegen.compile, find_layer(name), "cpuu")
    holds(text, ["no target 'cpuu'", "the targets are", "cpu", "did you mean 'cpu'?"])


def test_layer_names(tmp_path):
    text = refusal(errors.LayerNotFound, find_layer, "glamm")
    holds(
        text, ["no layer 'glamm'", "glam, glam_dense", "FILE.py:FUNCTION", "mean 'glam"]
    )
    name, _ = written(tmp_path, {})
    text = refusal(errors.LayerNotFound, find_layer, f"{name}s")
    holds(
        text, ["no layer 'layers' in", "layer.py", "it defines layer", "mean 'layer'?"]
    )


FILES = {
    "missing": (None, errors.UnreadableLayerFile, ["No such file"]),
    "not UTF-8": (b"x = '\xff'", errors.UnreadableLayerFile, ["not UTF-8 text"]),
    "a null byte": (b"x = 1\0", errors.UnreadableLayerFile, ["cannot be read"]),
    "no Python": (
        b"x = 1\ny = (",
        errors.UnreadableLayerFile,
        ["line 2", "never closed"],
    ),
    "raises": (
        b"x = 1\n1 / 0\n",
        errors.LayerRaised,
        ["odd.py:2: ", "ZeroDivisionError"],
    ),
    "defines nothing": (
        b"",
        errors.LayerNotFound,
        ["'f' in", "it defines no function"],
    ),
}


@pytest.mark.parametrize("case", FILES)
def test_layer_files(case, tmp_path):
    content, kind, parts = FILES[case]
    path = tmp_path / "odd.py"
    if content is not None:
        path.write_bytes(content)
    holds(refusal(kind, find_layer, f"{path}:f"), ["odd.py", *parts])


def test_a_folder_is_no_layer_file(tmp_path):
    folder = tmp_path / "odd.py"
    folder.mkdir()
    text = refusal(errors.UnreadableLayerFile, find_layer, f"{folder}:f")
    holds(text, ["odd.py", "directory"])


@pytest.fixture(scope="module")
def op(tmp_path_factory):
    folder = tmp_path_factory.mktemp("op")
    edits = {
        'x=tensor("tokens model")': 'x=tensor("tokens model"), u=tensor("tokens", '
        'dtype="float32", default="uniform")',
        "dispatch(x, kept)": "dispatch(x * u[:, None], kept)",
    }
    name, _ = written(folder, edits)
    return moegen.compile(find_layer(name), cache=folder)


def given(op):
    return op.init(jax.random.key(0)), jnp.ones((8, 4)), jnp.ones(8)


def test_inputs_are_checked(op):
    params, x, u = given(op)
    text = refusal(errors.InputMismatch, op, params, x[:7], u)
    holds(text, ["input 'x' of the layer 'layer'", "f32[8,4]", "f32[7,4]", "recompile"])
    text = refusal(errors.InputMismatch, op, params, x.astype(jnp.bfloat16), u)
    holds(text, ["must be f32[8,4], and is bf16[8,4]"])
    text = refusal(errors.MissingInput, op, params, u=u)
    holds(text, ["needs the input 'x' (f32[8,4]", "pass it"])
    text = refusal(errors.MissingInput, op, params, x, u, u)
    holds(text, ["3 inputs", "its inputs are x, u"])
    text = refusal(errors.MissingInput, op, params, x, v=u)
    holds(text, ["'v'", "its inputs are x, u"])


def test_the_random_key_is_asked_for(op):
    params, x, _ = given(op)
    text = refusal(errors.MissingInput, op, params, x)
    holds(text, ["needs the input 'u'", "key=jax.random.key(...)"])


def test_parameters_are_checked(op):
    params, x, u = given(op)
    short = {name: w for name, w in params.items() if name != "wo"}
    text = refusal(errors.MissingInput, op, short, x, u)
    holds(text, ["'wo'", "f32[3,6,4]", "op.init(key)"])
    text = refusal(errors.InputMismatch, op, params | {"wo": params["wi"]}, x, u)
    holds(text, ["parameter 'wo'", "f32[3,6,4]", "f32[3,4,6]"])


def test_differentiating_twice(op):
    params, x, u = given(op)

    def first(x):
        return jax.grad(lambda x: op(params, x, u)[0].sum())(x).sum()

    with pytest.raises(
        Exception, match=r"the layer 'layer' cannot be .* again: .* first"
    ):
        jax.eval_shape(jax.grad(first), x)


def test_passes_and_their_options():
    text = refusal(errors.UnknownPass, parse_passes, "canonicalise")
    holds(
        text,
        ["no pass 'canonicalise'", "derive-backward, fuse", "mean 'canonicalize'?"],
    )
    text = refusal(errors.UnknownPass, parse_passes, "canonicalize;fuse")
    holds(text, ["no pass", "the passes are canonicalize"])
    text = refusal(errors.UnknownPassOption, parse_passes, "derive-backward{kep=true}")
    holds(text, ["'derive-backward' has no option 'kep'", "its options are keep"])
    text = refusal(errors.BadPassOption, parse_passes, "derive-backward{keep=maybe}")
    holds(text, ["keep=maybe", "true or false"])
    make_pass("schedule", {"target": "cpu"}, ALL_PASSES)


@pytest.mark.parametrize("kind", ["a file", "read-only"])
def test_a_cache_folder_that_cannot_be_written(kind, tmp_path):
    folder = tmp_path / "cache"
    if kind == "a file":
        folder.write_text("")
    else:
        if os.geteuid() == 0:
            pytest.skip("root may write everywhere")
        folder.mkdir(mode=0o500)
    text = refusal(errors.CacheUnusable, cache.store, "x = 1\n", "m", folder)
    holds(text, [str(folder), "name another folder with --cache"])


def test_every_error_has_a_sentence_with_its_numbers():
    own = [e for e in vars(errors).values() if isinstance(e, type)]
    kinds = [e for e in own if issubclass(e, errors.MoegenError)]
    assert len(kinds) > 30
    bare = {"MoegenError", "LayerError", "BadArgument"}
    assert not [e for e in kinds if "{" not in e.sentence and e.__name__ not in bare]


def test_expert_ids_out_of_range_are_named():
    error = errors.ExpertOutOfRange(last=3, name="choice", id=np.int32(4))
    holds(str(error), ["between -1 (dropped) and 3", "'choice' holds 4"])
