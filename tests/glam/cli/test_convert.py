"""`glam convert`: nothing is lost on the way, and nothing is overwritten unasked."""

import inspect
import json
import resource
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from glam.cli import main
from glam.data.document import Document
from glam.data.subwords import train_tokenizer
from glam.interchange import load, named, save, tokenizer_of
from ir.errors import BadArgument
from tests.glam.cli import small_model


@pytest.fixture
def model(tmp_path):
    return small_model.written(tmp_path / "model")


def test_there_and_back(model, capsys, tmp_path):
    out = tmp_path / "out"
    assert main(["convert", str(model), "--out", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["logits_differ_by"] == 0.0
    assert told["tensors"] == len(named(small_model.params()))
    assert sorted(told["files"]) == ["config.json", "model.safetensors"]
    assert sorted(file.name for file in out.iterdir()) == sorted(told["files"])
    for name in told["files"]:
        assert (out / name).read_bytes() == (model / name).read_bytes()


def test_another_dtype(model, capsys, tmp_path):
    out = tmp_path / "out"
    assert main(["convert", str(model), "--out", str(out), "--dtype", "bfloat16"]) == 0
    shown = capsys.readouterr().out
    assert "read back: every tensor bit for bit" in shown
    config, params = load(out)
    assert config == replace(small_model.CONFIG, parameter_dtype="bfloat16")
    for name, array in named(small_model.params()).items():
        narrow = np.asarray(array.astype("bfloat16"))
        assert named(params)[name].tobytes() == narrow.tobytes()


def test_safetensors_of_others_are_given_a_tokenizer(capsys, tmp_path):
    config = replace(small_model.CONFIG, vocabulary=259)
    save(config, small_model.params(), tmp_path / "bare")
    asked = ["convert", str(tmp_path / "bare"), "--out", str(tmp_path / "out")]
    assert main(asked) == 2
    assert "bare has no tokenizer.model: name the model's with --tokenizer" in (
        capsys.readouterr().err
    )
    assert not (tmp_path / "out").exists()
    assert main([*asked, "--tokenizer", "bytes"]) == 0
    assert tokenizer_of(tmp_path / "out").fingerprint == "bytes-259"


def test_a_tokenizer_of_another_model(model, tmp_path, capsys):
    text = inspect.getsource(inspect)[:40_000]
    subwords = train_tokenizer([Document(text, "")], 400)
    subwords.save(tmp_path / "own.model")
    with pytest.raises(BadArgument, match="saved with the tokenizer bytes-259, and"):
        tokenizer_of(model, str(tmp_path / "own.model"))
    with pytest.raises(BadArgument, match="the tokenizer has 400 ids and the model"):
        save(small_model.CONFIG, small_model.params(), tmp_path / "out", subwords)
    assert not (tmp_path / "out").exists()


def test_what_stands_there_is_kept(model, tmp_path, capsys):
    other = tmp_path / "other"
    other.mkdir()
    (other / "letter.txt").write_text("dear reader")
    for arguments, sentence in (
        ([], "other exists already; name another output, or pass --overwrite"),
        (["--overwrite"], "other holds no config.json, so it is left as it is"),
    ):
        assert main(["convert", str(model), "--out", str(other), *arguments]) == 2
        assert sentence in capsys.readouterr().err
    assert [file.name for file in other.iterdir()] == ["letter.txt"]
    # In place: the model is replaced by itself in one step.
    assert main(["convert", str(model), "--out", str(model), "--overwrite"]) == 0
    assert load(model)[0] == small_model.CONFIG


@contextmanager
def full_disk():
    """No file may grow beyond 1,000 bytes: the system's answer to a full disk.

    Only while the command runs: pytest's own output may go to a file.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_nothing(model, tmp_path, capsys):
    with full_disk():
        code = main(["convert", str(model), "--out", str(tmp_path / "out")])
    assert code == 2
    err = capsys.readouterr().err
    assert "out does not fit: File too large" in err
    assert "nothing was left behind: make room" in err
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model"]
    # The model that stands there survives what would have replaced it.
    asked = ["convert", str(model), "--out", str(model), "--overwrite"]
    with full_disk():
        code = main([*asked, "--dtype", "bfloat16"])
    assert code == 2
    assert load(model)[0] == small_model.CONFIG


def test_a_tensor_too_many_or_too_few(model, tmp_path, capsys):
    from safetensors.numpy import load_file, save_file

    path = model / "model.safetensors"
    arrays = load_file(path)
    short = {name: array for name, array in arrays.items() if name != "final_norm"}
    for changed, sentence in (
        (arrays | {"extra": arrays["final_norm"]}, "no parameter for the tensor extra"),
        (short, "the model's parameter final_norm is missing"),
        (
            arrays | {"final_norm": arrays["final_norm"].astype(np.float16)},
            "final_norm is float16[8], and the model's parameter is float32[8]",
        ),
    ):
        save_file(changed, path, {"tokenizer": "bytes-259"})
        assert main(["convert", str(model), "--out", str(tmp_path / "out")]) == 2
        assert sentence in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
