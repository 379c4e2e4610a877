"""Variants at equal cost: what is found, and what is said of the rest."""

import json

import pytest

from glam.cli import main
from glam.family import MODELS, count, forward_flops
from glam.variants import Rule, variant
from ir.errors import BadArgument


@pytest.mark.parametrize("match", ["activated-flops", "activated-parameters"])
@pytest.mark.parametrize("experts", [2, 8, 512])
def test_no_other_width_is_nearer(match, experts):
    base, rule = MODELS["1.7B"], Rule(match, tolerance=0.02)
    found = variant(base, experts, rule).model
    assert found.experts == experts
    assert found.hidden % 128 == 0

    def away(hidden):
        changed = type(base)(**vars(found) | {"hidden": hidden})
        return abs(rule.cost(changed) / rule.cost(base) - 1)

    least = min(range(128, 16384, 128), key=away)
    assert found.hidden == least
    assert away(least) <= 0.02


def test_layers_give_way_in_pairs():
    rule = Rule("total-parameters", 0.05, "layers")
    base = MODELS["8B/64E"]
    found = variant(base, 16, rule)
    assert found.model.layers % 2 == 0
    assert found.model.hidden == base.hidden
    total = count(found.model).total / count(base).total - 1
    assert found.difference == pytest.approx(total)
    assert abs(total) <= 0.05


def test_a_model_matches_itself():
    found = variant(MODELS["8B/64E"], 64, Rule(tolerance=0.0))
    assert found.difference == 0.0
    assert found.model.hidden == 16384
    assert forward_flops(found.model) == forward_flops(MODELS["8B/64E"])


@pytest.mark.parametrize(
    ("experts", "rule", "reason"),
    [
        (1, Rule(), "k=2 experts a token of experts=1: lower k"),
        (64, Rule(tolerance=1e-4), "128 the nearest, hidden 6,912 (-1.00%) and hidden"),
        (
            10**6,
            Rule(),
            "what does not depend on hidden comes to 5.019e+10 already, and",
        ),
        (8, Rule(vary="layers", multiple=27), "layers=27: a model with experts is ma"),
    ],
)
def test_why_not(experts, rule, reason):
    found = variant(MODELS["1.7B"], experts, rule)
    assert found.model is None
    assert reason in found.reason


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"match": "flops"}, "match='flops' must be one of activated-flops, activat"),
        ({"vary": "heads"}, "vary='heads' must be one of hidden, layers"),
        ({"tolerance": 1.0}, "tolerance=1 must be at least 0 and below 1"),
        ({"multiple": -1}, "multiple=-1 must be a whole number"),
    ],
)
def test_rules_that_are_none(changed, sentence):
    with pytest.raises(BadArgument) as caught:
        Rule(**changed)
    assert sentence in str(caught.value)


def test_the_command(capsys):
    assert main(["variants", "8B/64E", "--experts", "1,8,16,8"]) == 0
    out = capsys.readouterr().out
    assert "8B/8E -0.037% 32 4096 16384 8 " in " ".join(out.split())
    assert "22,680,473,600  9,795,571,712" in out
    assert (
        "impossible with experts=1: k=2 experts a token of experts=1: lower k\n" in out
    )
    assert main(["variants", "8B/64E", "--experts", "1,8", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["possible"] for one in told["variants"]] == [False, True]
    assert told["variants"][1]["model"]["total"] == 22_680_473_600
    assert told["rule"]["tolerance"] == 0.01


def test_nothing_possible_is_an_answer(capsys):
    asked = ["variants", "1.7B", "--experts", "8,16", "--tolerance", "0.001"]
    assert main(asked) == 1
    assert capsys.readouterr().out.count("impossible with ") == 2
    assert main([*asked, "--json"]) == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["9B", "--experts", "8"], "there is no model '9B'"),
        (["8B"], "the following arguments are required: --experts"),
        (["8B", "--experts", "8,x"], "--experts 8,x: 'x' is no whole number of at le"),
        (["8B", "--experts", "8,"], "--experts 8,: '' is no whole number"),
        (["8B", "--experts", "0"], "--experts 0: '0' is no whole number"),
        (
            ["8B", "--experts", "8", "--tolerance", "-1"],
            "tolerance=-1 must be at least",
        ),
        (["8B", "--experts", "8", "--tolerance", "nan"], "tolerance=nan must be at le"),
        (["8B", "--experts", "8", "--multiple", "0"], "--multiple 0: at least 1"),
        (["8B", "--experts", "8", "--match", "flops"], "invalid choice: 'flops'"),
    ],
)
def test_bad_use(capsys, arguments, sentence):
    assert main(["variants", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert sentence in err
    assert err.count("\n") == 1
