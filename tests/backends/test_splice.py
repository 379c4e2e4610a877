"""Splicing: constants set, branches on them folded, the unreached left out."""

import ast
from itertools import chain

import pytest

from backends.splice import fold_branches, set_constants, splice

KERNEL = '''"""A kernel."""

import math
from functools import partial

import jax
import jax.numpy as jnp
from backends.cpu.kernels.other import helper

# Columns are cut.
WIDTH = 4  # columns of a tile
MODE = "exact"
DTYPE = jnp.float32
SCALE = math.pi


def root(x):
    """What is asked for."""
    # A comment stays.
    if MODE == "exact" and WIDTH > 2:
        y = helper(x)
    elif MODE == "fast":
        y = quick(x)
    else:
        y = slow(x)
    if x is None:
        return WIDTH
    return y


def quick(x):
    return partial(jnp.exp, x)()


def slow(x):
    return jax.vmap(again)(x)


def again(x):
    return x.astype(DTYPE) * SCALE


def stray(x):
    return x
'''
OTHER = '"""More."""\n\n\ndef helper(x):\n    return recurse(x)\n\n\n' + (
    "def recurse(x):\n    return helper(x) if x else 0\n"
)


@pytest.fixture
def modules(tmp_path):
    paths = [tmp_path / "kernel.py", tmp_path / "other.py"]
    for path, text in zip(paths, (KERNEL, OTHER), strict=True):
        path.write_text(text, encoding="utf-8")
    return paths


def run(modules, mode, width=4, dtype="float32"):
    constants = {"MODE": mode, "WIDTH": width, "DTYPE": dtype}
    return splice(modules, {"root"}, constants)


def every(parts, what):
    return tuple(text for part in parts for text in getattr(part, what))


def defined(parts):
    definitions = every(parts, "definitions")
    return [text.split("(")[0].removeprefix("def ") for text in definitions]


def test_only_what_the_taken_branch_reaches_is_kept(modules):
    exact = run(modules, "exact")
    assert defined(exact) == ["root", "helper", "recurse"]
    assert "y = helper(x)\n    if x is None" in exact[0].definitions[0]
    assert defined(run(modules, "exact", width=2)) == ["root", "slow", "again"]
    assert defined(run(modules, "fast")) == ["root", "quick"]


def test_constants_are_those_used_with_their_comments(modules):
    exact = every(run(modules, "exact", 8), "constants")
    assert exact == ("# Columns are cut.\nWIDTH = 8  # columns of a tile",)
    slow = every(run(modules, "no", dtype="bfloat16"), "constants")
    assert "DTYPE = jnp.bfloat16" in slow
    assert "SCALE = math.pi" in slow


def test_imports_are_those_used_and_none_is_ours(modules):
    exact, other = run(modules, "exact")
    assert exact.imports == ()
    assert exact.beside == {"other": ("helper",)}
    assert (other.name, other.doc) == ("other", "More.")
    assert other.beside == {}
    (fast,) = run(modules, "fast")
    assert fast.imports == ("from functools import partial", "import jax.numpy as jnp")
    assert fast.beside == {}
    slow = every(run(modules, "no"), "imports")
    assert slow == ("import math", "import jax", "import jax.numpy as jnp")


def test_comments_docstrings_and_other_branches_stay(modules):
    text = run(modules, "fast")[0].definitions[0]
    assert '"""What is asked for."""\n    # A comment stays.\n    y = quick(x)' in text
    assert "if x is None:\n        return WIDTH" in text


@pytest.mark.parametrize("mode", ["exact", "fast", "no"])
def test_the_result_is_whole(modules, mode):
    parts = run(modules, mode)
    lines = (every(parts, what) for what in ("imports", "constants", "definitions"))
    text = "\n".join(chain.from_iterable(lines))
    tree = ast.parse(text)
    stored = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and _bound(n)}
    stored |= {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
    stored |= {n.arg for n in ast.walk(tree) if isinstance(n, ast.arg)}
    stored |= {
        (a.asname or a.name).split(".")[0]
        for n in ast.walk(tree)
        if isinstance(n, ast.Import | ast.ImportFrom)
        for a in n.names
    }
    used = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and not _bound(n)}
    assert used <= stored


def _bound(name: ast.Name) -> bool:
    return isinstance(name.ctx, ast.Store)


@pytest.mark.parametrize(
    ("test", "taken"),
    [
        ("N", True),
        ("not N", False),
        ("N == 3", True),
        ("N != 3", False),
        ("N < 3 or N >= 3", True),
        ("N <= 2 and N > 0", False),
        ('S == "a"', True),
    ],
)
def test_every_form_of_test_is_folded(test, taken):
    text = f"if {test}:\n    x = 1\nelse:\n    x = 2"
    assert fold_branches(text, {"N": 3, "S": "a"}) == f"x = {1 if taken else 2}"


def test_folding_leaves_nested_text_in_its_place():
    text = "def f(x):\n    if N:\n        if x:\n\n            return 1\n    return 2"
    assert (
        fold_branches(text, {"N": 1})
        == "def f(x):\n    if x:\n\n        return 1\n    return 2"
    )


def test_a_branch_without_else_that_is_not_taken_vanishes():
    text = "def f(x):\n    if N > 1:\n        x = 2\n    return x"
    assert fold_branches(text, {"N": 1}) == "def f(x):\n    return x"


@pytest.mark.parametrize(
    ("n", "left"),
    [
        (1, "if x:\n    y = 0\nelse:\n    y = 1"),
        (2, "if x:\n    y = 0\nelse:\n    y = 2"),
        (3, "if x:\n    y = 0\nelse:\n    # Neither.\n    y = 3"),
    ],
)
def test_constants_behind_a_test_that_stays(n, left):
    text = (
        "if x:\n    y = 0\nelif N == 1:\n    y = 1\nelif N == 2:\n    y = 2\n"
        "else:\n    # Neither.\n    y = 3"
    )
    assert fold_branches(text, {"N": n}) == left


def test_a_test_that_cannot_be_evaluated_is_refused():
    with pytest.raises(ValueError, match=r"too complicated: N \+ 1"):
        fold_branches("if N + 1:\n    x = 1", {"N": 1})


def test_a_constant_over_several_lines_is_replaced_whole():
    text = "SIZES = (\n    1,\n    2,\n)  # why\nNEXT = 1"
    made = set_constants(text, {"SIZES": (3, 4), "NEXT": "float16"})
    assert made == "SIZES = (3, 4)  # why\nNEXT = jnp.float16"
