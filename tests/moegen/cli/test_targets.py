import json

from backends.chips import CHIPS


def test_the_table(run):
    ran = run("targets")
    assert ran.code == 0
    lines = ran.out.split("\n")
    assert [line.split()[0] for line in lines[2 : 2 + len(CHIPS)]] == list(CHIPS)
    assert "This version compiles for cpu; not yet for tpu-v4, tpu-v5e," in ran.out


def test_json(run):
    told = json.loads(run("targets", "--json").out)
    assert told["targets"] == ["cpu"]
    assert told["not_yet"] == [name for name in CHIPS if name != "cpu"]
    assert told["chips"]["tpu-v5e"]["bf16_flops"]["value"] == 1.97e14
    assert told["chips"]["cpu"]["hbm_bandwidth"]["value"] is None
