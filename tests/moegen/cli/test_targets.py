import json

from backends.chips import CHIPS

GPUS = [name for name in CHIPS if name.startswith("gpu-")]
READY = [name for name in CHIPS if name not in GPUS]


def test_the_table(run):
    ran = run("targets")
    assert ran.code == 0
    lines = ran.out.split("\n")
    assert [line.split()[0] for line in lines[2 : 2 + len(CHIPS)]] == list(CHIPS)
    ready, waiting = ", ".join(READY), ", ".join(GPUS)
    assert f"This version compiles for {ready}; not yet for {waiting}" in ran.out


def test_json(run):
    told = json.loads(run("targets", "--json").out)
    assert told["targets"] == READY
    assert told["not_yet"] == GPUS
    assert told["chips"]["tpu-v5e"]["bf16_flops"]["value"] == 1.97e14
    assert told["chips"]["cpu"]["hbm_bandwidth"]["value"] is None
