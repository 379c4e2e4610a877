import json


def test_the_table(run, tiny, cache):
    ran = run("inspect", *tiny)
    assert ran.code == 0
    for function in ("forward", "forward_residuals", "backward"):
        assert f"\n{function}\n" in ran.out
    assert ran.out.count("\ntotal ") == 3
    assert "kernel.grouped_matmul      32          4           0.016" in ran.out
    assert "compute_dtype=float32 product_dtype=float32 tiles=1,2,4,8,16,32" in ran.out
    assert f"emitted source: {cache}/glam_moe-" in ran.out


def test_estimates_are_called_so(run, tiny):
    out = run("inspect", *tiny).out
    body = [line for line in out.split("\n") if line.startswith(("kernel.", "total"))]
    assert all(" estimated" in line for line in body)
    assert "nothing here was measured" in out


def test_json(run, tiny):
    told = json.loads(run("inspect", *tiny, "--json").out)
    assert told["layer"] == "glam_moe"
    assert told["sizes"]["experts"] == 4
    assert {row["how"] for row in told["kernels"]} == {"estimated"}
    assert [total["function"] for total in told["totals"]] == [
        "forward",
        "forward_residuals",
        "backward",
    ]
    for total in told["totals"]:
        own = [r for r in told["kernels"] if r["function"] == total["function"]]
        assert total["flops"] == sum(row["flops"] for row in own)
        assert total["kernels"] == len(own)


def test_a_bad_layer(run):
    ran = run("inspect", "nope")
    assert ran.code == 2
    assert "there is no layer 'nope'" in ran.err


TPU = ("--target", "tpu-v5e", "--set", "tokens=256", "model=128", "hidden=256")


def test_a_tpu_has_padding_memory_steps_and_a_roofline(run, cache):
    ran = run("inspect", "mixtral", *TPU, "experts=8", "--cache", str(cache))
    assert ran.code == 0
    lines = ran.out.split("\n")
    header = next(line for line in lines if line.startswith("kernel "))
    for column in ("done / needed", "VMEM MiB", "grid", "roofline us", "bound by"):
        assert column in header
    assert sum(line.startswith("grouped_sums.") for line in lines) == 3
    assert "forward.grouped_rows.0 (mixtral_moe.py:43): block_columns=256" in ran.out
    assert "nothing here was compiled or measured" in ran.out
    assert "a kernel can have 115.2 MiB and 1023.5 KiB" in ran.out


def test_the_json_of_a_tpu(run, cache):
    ran = run("inspect", "mixtral", *TPU, "experts=8", "--json", "--cache", str(cache))
    told = json.loads(ran.out)
    assert told["obtained"].startswith("Estimated from shapes, schedules")
    kernels = [k["estimate"] for k in told["kernels"]]
    assert all(e["bound"] in ("products", "HBM") for e in kernels)
    for total in told["totals"]:
        own = [k for k in told["kernels"] if k["function"] == total["function"]]
        assert total["seconds"] == sum(k["estimate"]["seconds"] for k in own)
        assert total["flops_done"] >= total["flops"]


def test_a_schedule_of_ones_own(run, cache):
    own = ("--schedule", "tile_rows=32", "grouped_rows.block_columns=128")
    ran = run("inspect", "mixtral", *TPU, "experts=8", *own, "--cache", str(cache))
    assert "block_columns=128 block_inner=128" in ran.out
    assert "tile_rows=32" in ran.out
    ran = run("inspect", "mixtral", *TPU, "--schedule", "tile_rows=33")
    assert ran.code == 2
    assert "tile_rows=33: a tile is whole chunks" in ran.err


def test_cycles_of_both_passes_come_from_the_compiled_schedule(run, cache):
    sizes = ("experts=8", "--dtype", "bfloat16", "--cache", str(cache))
    ran = run("inspect", "switch", *TPU, *sizes, "--cycles", "--json")
    told = json.loads(ran.out)
    forward, training = (told["cycles"][p] for p in ("forward", "training"))
    assert forward["obtained"].startswith("estimated from the schedule compiled by")
    assert 0 < forward["microseconds"] < training["microseconds"]
    kernels = [op["source"] for op in training["ops"] if op["kind"] == "kernel"]
    for name in ("router", "grouped_rows", "grouped_sums"):
        assert any(name in source for source in kernels)
    loops = forward["loops"]
    assert loops
    assert all(loop["rounds"] > 0 and loop["cycles"] > 0 for loop in loops)
    assert sum(loop["share"] for loop in loops) <= 1


def test_cycles_need_a_tpu(run):
    ran = run("inspect", "switch", "--target", "cpu", "--cycles")
    assert ran.code == 2
    assert "moegen: inspect --cycles estimates TPUs and the target is 'cpu'" in ran.err
