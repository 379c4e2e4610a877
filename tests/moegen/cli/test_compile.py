import json
import subprocess
import sys

import pytest

from ir import mlir
from moegen.cli.layer_options import read_sizes

STAGES = [
    "00-trace",
    "01-canonicalize",
    "02-derive-backward",
    "03-canonicalize",
    "04-fuse",
    "05-canonicalize",
    "06-schedule",
]


@pytest.mark.smoke
def test_out_writes_the_module(run, tiny, tmp_path):
    folder = tmp_path / "made" / "here"
    ran = run("compile", *tiny, "--out", folder)
    assert ran.code == 0
    file = folder / "glam_moe.py"
    size = file.stat().st_size
    assert ran.out == f"compiled glam_moe for cpu: {file} ({size:,} bytes)\n"
    assert [item.name for item in folder.iterdir()] == ["glam_moe.py"]
    compile(file.read_text(), str(file), "exec")


def test_for_a_tpu_out_writes_a_package_that_can_be_imported(run, tiny, tmp_path):
    ran = run("compile", *tiny, "--target", "tpu-v4", "--out", tmp_path)
    assert ran.code == 0
    folder = tmp_path / "glam_moe"
    files = sorted(folder.iterdir())
    size = sum(file.stat().st_size for file in files)
    assert ran.out == (
        f"compiled glam_moe for tpu-v4: {folder / '__init__.py'} "
        f"({size:,} bytes with the {len(files) - 1} files beside it)\n"
    )
    assert mlir.functions(mlir.parse((folder / "layer.mlir").read_text()))
    program = "import glam_moe, jax; print(glam_moe.init(jax.random.key(0)).keys())"
    environment = {"JAX_PLATFORMS": "cpu", "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "dict_keys(['router', 'wi', 'wo'])\n"


def test_a_module_that_a_package_of_its_name_hides_is_told(run, tiny, tmp_path):
    assert run("compile", *tiny, "--out", tmp_path).err == ""
    ran = run("compile", *tiny, "--target", "tpu-v4", "--out", tmp_path)
    assert ran.code == 0
    assert "both glam_moe.py and glam_moe/, of which Python imports" in ran.err


def test_without_out_it_says_where_the_cached_module_lies(run, tiny, cache):
    ran = run("compile", *tiny)
    path = ran.out.split(": ")[1].split(" (")[0]
    assert path.startswith(f"{cache}/glam_moe-")


def test_json_is_one_document(run, tiny, tmp_path):
    dump = tmp_path / "ir"
    options = ("--json", "--print-after", "fuse", "--dump-ir", dump)
    ran = run("compile", *tiny, *options)
    told = json.loads(ran.out)
    assert told["layer"] == "glam_moe"
    assert told["target"] == "cpu"
    assert told["dtype"] == "float32"
    assert told["sizes"]["tokens"] == 16
    assert list(told["ir"]) == ["04-fuse"]
    assert len(told["ir_files"]) == len(STAGES)
    assert mlir.parse(told["ir"]["04-fuse"])


def test_dumped_ir_parses_back(run, tiny, tmp_path):
    assert run("compile", *tiny, "--dump-ir", tmp_path).code == 0
    files = sorted(tmp_path.iterdir())
    assert [file.stem for file in files] == STAGES
    for file in files:
        text = file.read_text()
        assert mlir.print_module(mlir.parse(text)) == text


def test_print_after_prints_only_ir(run, tiny):
    ran = run("compile", *tiny, "--print-after", "fuse")
    assert ran.out.startswith("// 04 after fuse\n")
    assert mlir.functions(mlir.parse(ran.out)).keys() >= {"forward", "backward"}
    assert "glam_moe.py" in ran.out
    assert ran.err.startswith("compiled glam_moe for cpu: ")


def test_print_after_all_without_locations(run, tiny):
    ran = run("compile", *tiny, "--print-after", "all", "--no-locations")
    heads = [line for line in ran.out.split("\n") if line.startswith("// 0")]
    assert heads == [f"// {stage.replace('-', ' after ', 1)}" for stage in STAGES]
    assert "loc(" not in ran.out


def test_an_unknown_pass(run, tiny):
    ran = run("compile", *tiny, "--print-after", "fusee")
    assert ran.code == 2
    assert ran.err == (
        "moegen: there is no pass 'fusee'; the passes are trace, canonicalize, "
        "derive-backward, fuse, schedule, all; did you mean 'fuse'?\n"
    )


@pytest.mark.parametrize("flag", ["--out", "--dump-ir"])
def test_a_folder_that_cannot_be_written(run, tiny, tmp_path, flag):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    ran = run("compile", *tiny, flag, blocked)
    assert ran.code == 2
    assert ran.out == ""
    assert ran.err == (
        f"moegen: the output folder {blocked} cannot be written: File exists; "
        f"name another with {flag}\n"
    )


def test_bfloat16(run, tiny, tmp_path):
    ran = run("compile", *tiny, "--dtype", "bfloat16", "--out", tmp_path, "--json")
    assert json.loads(ran.out)["dtype"] == "bfloat16"
    assert "bfloat16" in (tmp_path / "glam_moe.py").read_text()


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (("nope",), "there is no layer 'nope' among those that ship"),
        (
            ("glam", "--target", "cpuu"),
            "there is no target 'cpuu'; the targets",
        ),
        (("glam", "--set", "token=3"), "did you mean 'tokens'?"),
        (("glam", "--set", "tokens=0"), "tokens=0 must be a positive whole number"),
        (("glam", "--set", "tokens"), "--set takes SIZE=VALUE, such as tokens=64, and"),
        (("glam", "--set", "tokens="), "such as tokens=64, and got 'tokens='"),
        (("glam", "--set", "target=3"), "no size of a layer can be called 'target'"),
        (("glam", "--dtype", "f16"), "argument --dtype: invalid choice: 'f16'"),
        (("gone.py:layer",), "the layer file gone.py cannot be read: No such file"),
    ],
)
def test_bad_input_is_one_sentence(run, argv, sentence):
    ran = run("compile", *argv)
    assert ran.code == 2
    assert ran.out == ""
    assert ran.err.startswith("moegen: ")
    assert sentence in ran.err
    assert ran.err.count("\n") == 1


def test_sizes_may_be_repeated(run, cache):
    parts = (
        "--set",
        "tokens=16",
        "--set",
        "model=8",
        "hidden=16",
        "--set",
        "experts=4",
    )
    ran = run("compile", "glam", *parts, "--cache", cache, "--json")
    assert json.loads(ran.out)["sizes"]["hidden"] == 16


def test_values_of_sizes():
    given = ["a=1", "b=0.5", "c=true", "d=false", "e=all", "f=1e3", "g=x=y"]
    assert read_sizes(given) == {
        "a": 1,
        "b": 0.5,
        "c": True,
        "d": False,
        "e": "all",
        "f": 1000.0,
        "g": "x=y",
    }
