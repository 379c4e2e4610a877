import json
import subprocess
import sys

import pytest

from glam.cli import main
from glam.family import MODELS, count, find_model, forward_flops, weight_bytes
from ir.errors import BadArgument

TABLE_4 = [
    ("0.1B", "dense", "130M", "130M", 12, 768, 3072, 12, 64, None),
    ("0.1B/64E", "MoE", "1.9B", "145M", 12, 768, 3072, 12, 64, 64),
    ("1.7B", "dense", "1.7B", "1.700B", 24, 2048, 8192, 16, 128, None),
    ("1.7B/32E", "MoE", "20B", "1.878B", 24, 2048, 8192, 16, 128, 32),
    ("1.7B/64E", "MoE", "27B", "1.879B", 24, 2048, 8192, 16, 128, 64),
    ("1.7B/128E", "MoE", "53B", "1.881B", 24, 2048, 8192, 16, 128, 128),
    ("1.7B/256E", "MoE", "105B", "1.886B", 24, 2048, 8192, 16, 128, 256),
    ("8B", "dense", "8.7B", "8.7B", 32, 4096, 16384, 32, 128, None),
    ("8B/64E", "MoE", "143B", "9.8B", 32, 4096, 16384, 32, 128, 64),
    ("137B", "dense", "137B", "137B", 64, 8192, 65536, 128, 128, None),
    ("64B/64E", "MoE", "1.2T", "96.6B", 64, 8192, 32768, 128, 128, 64),
]


def sizes(m):
    return m.layers, m.model, m.hidden, m.heads, m.head


def test_the_rows_of_table_4():
    rows = [
        (m.name, m.kind, m.printed_total, m.printed_activated, *sizes(m), m.experts)
        for m in MODELS.values()
    ]
    assert rows == TABLE_4


@pytest.mark.parametrize(
    ("name", "total", "activated"),
    [
        ("137B", 137_702_416_384, 137_702_416_384),
        ("64B/64E", 1_161_756_418_048, 96_604_528_640),
    ],
)
def test_counts_that_the_facts_give_in_full(name, total, activated):
    made = count(MODELS[name])
    assert (made.total, made.activated) == (total, activated)


@pytest.mark.parametrize(
    ("name", "activated"), [("8B/64E", 9_799_241_728), ("1.7B/64E", 1_879_160_832)]
)
def test_activated_counts(name, activated):
    assert count(MODELS[name]).activated == activated


@pytest.mark.parametrize(
    ("name", "part", "value", "unit"),
    [
        ("0.1B", "activated", "137.8", 1e6),
        ("0.1B/64E", "activated", "152.3", 1e6),
        ("1.7B", "total", "1676.3", 1e6),
        ("1.7B/32E", "total", "13958.0", 1e6),
        ("1.7B/256E", "total", "104.2", 1e9),
        ("1.7B/256E", "activated", "1883.9", 1e6),
    ],
)
def test_rows_where_the_paper_prints_something_else(name, part, value, unit):
    assert f"{getattr(count(MODELS[name]), part) / unit:.1f}" == value


def test_only_the_largest_has_the_large_vocabulary():
    large = [m.name for m in MODELS.values() if m.vocabulary == 256_000]
    assert large == ["64B/64E"]
    assert {m.vocabulary for m in MODELS.values()} == {32_000, 256_000}


@pytest.mark.smoke
def test_parts_of_the_formula():
    made = count(MODELS["1.7B/32E"])
    layers, m, h, e, heads, head = 24, 2048, 8192, 32, 16, 128
    assert made.attention == layers * 4 * m * heads * head
    assert made.dense == layers // 2 * 3 * m * h
    assert made.experts + made.router == layers // 2 * (e * 2 * m * h + m * e)
    assert made.active_experts + made.router == layers // 2 * (2 * 2 * m * h + m * e)
    assert made.embedding == 32_000 * m
    assert made.norms == (2 * layers + 1) * m
    assert made.relative_bias == layers * heads * 32


def test_a_dense_model_activates_all_of_itself():
    made = count(MODELS["8B"])
    assert made.experts == made.active_experts == made.router == 0
    assert made.total == made.activated


def test_an_unknown_model_names_the_nearest():
    with pytest.raises(BadArgument, match=r"no model '8B/63E'.*mean '8B/64E'\?"):
        find_model("8B/63E")


def test_models(capsys):
    assert main(["models"]) == 0
    out = capsys.readouterr().out
    assert "1,161,756,418,048       1.2T   96,604,528,640      96.6B" in out


def test_models_json(capsys):
    assert main(["models", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["models"]
    assert [model["name"] for model in told] == list(MODELS)


def test_count(capsys):
    assert main(["count", "64b/64e"]) == 0
    last = capsys.readouterr().out.strip().split("\n")[-1]
    counted = "96,604,528,640"
    assert last.split() == ["activated", counted, counted, "96.6B"]


def test_every_count_is_that_of_the_parameter_tree(capsys):
    assert main(["count", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["models"]
    assert [model["name"] for model in told] == list(MODELS)
    for model in told:
        assert model["agrees"]
        assert model["tree"] == {n: model[n] for n in ("total", "activated")}
    assert main(["count"]) == 0
    out = capsys.readouterr().out
    assert out.count("  equal\n") == 11


def test_a_formula_that_is_wrong_is_told(capsys, monkeypatch):
    monkeypatch.setattr("glam.train.language_model.parameters", lambda c: (5, 3.0))
    assert main(["count", "8B"]) == 1
    assert capsys.readouterr().out.split("\n")[-3].split() == [
        "total",
        "8,721,305,600",
        "5",
        "8.7B",
    ]
    assert main(["count"]) == 1
    assert "5 / 3\n" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["0.1B", "0.1B/64E", "64B/64E"])
def test_flops_are_those_that_training_counts(name):
    from glam.model import Config
    from glam.train.language_model import flops_a_token

    trained = flops_a_token(Config.of(name))
    assert forward_flops(MODELS[name]) == pytest.approx(trained / 3, rel=1e-12)


def test_flops_and_bytes_of_the_largest():
    large = MODELS["64B/64E"]
    assert forward_flops(large, 1) / 1e9 == pytest.approx(193.2, abs=0.1)
    assert weight_bytes(large) == 4 * 1_161_756_418_048
    routers = 32 * 8192 * 64
    assert weight_bytes(large, "bfloat16") == 2 * (1_161_756_418_048 + routers)


def test_count_json(capsys):
    assert main(["count", "137B", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["total"] == told["activated"] == sum(told["parts"].values())
    assert told["printed_total"] == "137B"


def test_bad_use(capsys):
    assert main([]) == 2
    assert main(["count", "9B"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("glam: there is no model '9B'; the models are 0.1B, ")
    assert err.count("\n") == 1


def test_nothing_heavy_is_imported():
    code = (
        "import sys; from glam.cli import main; main(['models', '--json']);"
        "sys.exit(bool({'jax', 'jaxlib', 'numpy'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
