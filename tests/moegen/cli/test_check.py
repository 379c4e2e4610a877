"""`moegen check`: its use; that it finds what is wrong is tested with the compiler."""

import json

SMALL = ("--set", "t=8", "d=4", "e=2", "--routing", "balanced", "--reruns", "1")
LAYER = """\
import jax.numpy as jnp
from moegen.lang import *

def own(x=tensor("t d"), *, t=8, d=4, e=2, k=1):
    print("traced")
    scores = softmax(matmul(x, param("router", "d e")))
    choice = top_k(scores, k)
    rows = jnp.{function}(expert_matmul(dispatch(x, choice), param("w", "e d d")))
    return combine(rows, take(scores, choice))
"""


def own(tmp_path, function):
    path = tmp_path / "own.py"
    path.write_text(LAYER.format(function=function))
    return (f"{path}:own", "--cache", tmp_path, *SMALL)


def test_sizes_may_have_any_name_and_a_layer_may_print(run, tmp_path):
    ran = run("check", *own(tmp_path, "tanh"), "--json")
    (case,) = json.loads(ran.out)["cases"]
    assert (ran.code, case["verdict"]) == (0, "ok")
    assert "load + dropped" in case["errors"]
    assert set(ran.err.split()) == {"traced"}


def test_a_layer_that_is_not_finite_is_told(run, tmp_path):
    ran = run("check", *own(tmp_path, "sqrt"))
    assert ran.code == 1
    assert "WRONG: own, balanced: proof of d_x is off by nan" in ran.out
    assert "not finite for these inputs, so nothing is proved" in ran.out
    table = ran.out.split("over all routings")[1]
    assert any(
        line.split() == ["proof", "of", "d_x", "nan"] for line in table.split("\n")
    )


def test_bad_use(run, tmp_path):
    ran = run("check", "glam", "--reruns", "-1")
    assert (ran.code, ran.err) == (2, "moegen: --reruns -1: it must be 0 or more\n")
    ran = run("check", "glam_dense", "--routing", "zipf", "--cache", tmp_path)
    assert ran.code == 2
    assert ran.err == (
        "moegen: nothing was checked, no routing applies: "
        "zipf: the layer has no experts\n"
    )
    ran = run("check", "glam", "--set", "tokens=0", "--cache", tmp_path)
    assert ran.code == 2
    assert "the size tokens=0 must be a positive whole number" in ran.err


def test_the_last_line_counts_and_says_how_the_figures_came_about(run, tmp_path):
    ran = run("check", *own(tmp_path, "tanh"))
    last = ran.out.splitlines()[-1]
    assert last.startswith("1 case, 0 beyond a bound. Measured on cpu, jax ")
    assert last.endswith(", against the float64 interpreter.")
