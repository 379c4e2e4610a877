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
