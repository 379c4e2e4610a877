"""Errors around a layer: sizes, files, targets, inputs, passes, the cache."""

import inspect
import os
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import moegen
from backends.emitted import Emitted
from backends.targets import TARGETS, find_target
from ir import errors
from ir.pipeline import make_pass, parse_passes
from moegen import cache, lang
from moegen.compiler import ALL_PASSES
from moegen.keywords import TAKEN
from moegen.layers import find_layer
from moegen.trace import trace
from tests.moegen.layer_text import holds, refusal, written

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
        ["layer_text.py:", "moegen.lang.softmax was called outside", "moegen.compile"],
    )
    text = refusal(errors.OutsideLayer, lang.param, "w", "a b")
    holds(text, ["moegen.lang.param was called outside a layer"])


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["plain", "jit"])
def test_a_layer_function_is_not_called_itself(wrap, tmp_path):
    name, line = written(tmp_path, {'experts")\n': 'experts")  # here\n'})
    text = refusal(errors.OutsideLayer, wrap(find_layer(name)), jnp.ones((8, 4)))
    told = ["hand the layer function to moegen.compile", "call (or jit) the op that"]
    holds(text, [f"layer.py:{line}: moegen.lang.param was called outside", *told])


def test_a_layer_in_jit_is_the_layer(tmp_path):
    name, _ = written(tmp_path, {})
    layer = find_layer(name)
    assert str(trace(jax.jit(layer), tokens=16)) == str(trace(layer, tokens=16))


APART = {
    "jax.jit": ("top_k", "jax.jit(lambda s: top_k(s, 2))(scores)"),
    "jax.checkpoint": ("top_k", "jax.checkpoint(lambda s: top_k(s, 2))(scores)"),
    "jax.vmap": ("softmax", "jax.vmap(softmax)(scores[None])[0].astype(int)"),
    "jax.lax.map": ("softmax", "jax.lax.map(softmax, scores[None])[0].astype(int)"),
}


@pytest.mark.parametrize("case", APART)
def test_the_dsl_in_what_jax_traces_apart(case, tmp_path):
    op, code = APART[case]
    name, line = written(tmp_path, {"top_k(scores, 2)": f"{code}  # here"})
    for _ in range(2):  # JAX keeps what it has traced
        text = refusal(errors.InsideTransform, lambda: trace(find_layer(name)))
        holds(
            text, [f"layer.py:{line}: moegen.lang.{op} was called in a function that"]
        )
        holds(
            text, ["from the layer 'layer' (by jax.jit", "call it in the layer itself"]
        )


def test_what_is_no_function():
    text = refusal(errors.NotALayer, trace, 3)
    holds(text, ["a layer is a function, and this is 3"])


def test_unknown_target(tmp_path):
    name, _ = written(tmp_path, {})
    text = refusal(errors.UnknownTarget, moegen.compile, find_layer(name), "cpuu")
    holds(text, ["no target 'cpuu'", "the targets are", "cpu", "did you mean 'cpu'?"])


def test_a_chip_without_kernels(monkeypatch):
    others = {name: held for name, held in TARGETS.items() if name != "tpu-v4"}
    monkeypatch.setattr("backends.targets.TARGETS", others)
    text = refusal(errors.UnsupportedByTarget, find_target, "tpu-v4")
    holds(text, ["the target 'tpu-v4' cannot run a layer yet", "the targets are"])


def test_a_file_without_its_function():
    text = refusal(errors.BadArgument, find_layer, "mine.py")
    holds(text, ["'mine.py' names a file: name its function too, as in mine.py:layer"])


def test_names_that_compile_keeps_are_those_of_its_arguments():
    kinds = inspect.signature(moegen.compile).parameters.values()
    assert tuple(p.name for p in kinds if p.kind is not p.VAR_KEYWORD) == TAKEN


def test_an_option_that_a_layer_looks_up(tmp_path):
    text = refusal(
        errors.LayerRaised, lambda: trace(find_layer("glam"), activation="tanh")
    )
    holds(text, ["KeyError: 'tanh'; the layer was given activation=tanh"])


def test_sizes_of_numpy_are_whole_numbers(tmp_path):
    name, _ = written(tmp_path, {})
    assert "tensor<16x4xf32>" in str(trace(find_layer(name), tokens=np.int64(16)))


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
    "a null byte": (b"x = 1\0", errors.UnreadableLayerFile, ["read: source code"]),
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
    "exits": (
        b"x = 1\nimport sys; sys.exit(3)\n",
        errors.LayerRaised,
        ["odd.py:2: ", "SystemExit: 3"],
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


def test_a_layer_file_imports_what_lies_beside_it(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("beside_at_once", "beside_later"):
        (tmp_path / f"{name}.py").write_text("from moegen.lang import *\n")
    # A module of the user's own may be called like one of the library's.
    (tmp_path / "tabulate.py").write_text("MINE = True\n")
    monkeypatch.delitem(sys.modules, "tabulate", raising=False)
    name, _ = written(
        tmp_path,
        {
            "from moegen.lang import *": "from beside_at_once import *",
            "    router =": "    import beside_later\n    router =",
        },
    )
    assert trace(find_layer(name)) is not None
    import tabulate

    assert not hasattr(tabulate, "MINE")


def test_a_layer_file_that_imports_what_is_not_there(tmp_path):
    name, line = written(tmp_path, {"import jax\n": "import not_there  # here\n"})
    text = refusal(errors.LayerRaised, find_layer, name)
    holds(text, [f"layer.py:{line}: ", "No module named 'not_there'"])


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
    text = refusal(errors.BadArgument, op, params, x, u, u)
    holds(text, ["3 inputs", "its inputs are x, u"])
    text = refusal(errors.BadArgument, op, params, x, x=x)
    holds(text, ["its input 'x' twice", "pass it once"])
    text = refusal(errors.UnknownInput, op, params, x, uu=u)
    holds(text, ["has no input 'uu'; it takes x, u; did you mean 'u'?"])
    text = refusal(errors.BadArgument, op, params, [[1.0]], u)
    holds(text, ["input 'x'", "f32[8,4]", "is a list", "jnp.asarray"])


def test_the_random_key_is_asked_for(op):
    params, x, _ = given(op)
    text = refusal(errors.MissingInput, op, params, x)
    holds(text, ["needs the input 'u'", "key=jax.random.key(...)"])
    for call in (lambda: op(params, x, key=3), lambda: op.init(3)):
        text = refusal(errors.BadArgument, call)
        holds(text, ["takes a key, such as jax.random.key(0), and got 3"])


def test_parameters_are_checked(op):
    params, x, u = given(op)
    short = {name: w for name, w in params.items() if name != "wo"}
    text = refusal(errors.MissingInput, op, short, x, u)
    holds(text, ["'wo'", "f32[3,6,4]", "op.init(key)"])
    text = refusal(errors.InputMismatch, op, params | {"wo": params["wi"]}, x, u)
    holds(text, ["parameter 'wo'", "f32[3,6,4]", "f32[3,4,6]"])
    text = refusal(errors.UnknownInput, op, short | {"w0": params["wo"]}, x, u)
    holds(text, ["no parameter 'w0'", "router, wi, wo", "did you mean 'wo'?"])
    for wrong in (None, x, [params]):
        text = refusal(errors.BadArgument, op, wrong, x, u)
        holds(text, ["takes its parameters first, a dict of arrays", "op.init(key)"])


def test_an_op_is_shown_on_one_line(op):
    assert repr(op).startswith("<layer for cpu")
    assert "model=4, other=5, tokens=8>" in repr(op)
    assert "\n" not in repr(op)


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
        ["no pass 'canonicalise'", "derive-backward, quantise", "mean 'canonicalize'?"],
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
    text = refusal(errors.CacheUnusable, cache.store, Emitted("x = 1\n"), "m", folder)
    told = "name another folder with cache=... (on the command line --cache)"
    holds(text, [str(folder), told])


def test_every_error_has_a_sentence_with_its_numbers():
    own = [e for e in vars(errors).values() if isinstance(e, type)]
    kinds = [e for e in own if issubclass(e, errors.MoegenError)]
    assert len(kinds) > 30
    bare = {"MoegenError", "LayerError", "BadArgument"}
    assert not [e for e in kinds if "{" not in e.sentence and e.__name__ not in bare]


def test_expert_ids_out_of_range_are_named():
    error = errors.ExpertOutOfRange(last=3, name="choice", id=np.int32(4))
    holds(str(error), ["between -1 (dropped) and 3", "'choice' holds 4"])
