import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glam.train.checkpoint import Store, read_checkpoint, restore
from ir.errors import BadArgument


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "kept", keep=2)
    yield made
    made.close()


def arrays(value):
    return {
        "params/w": jnp.full((40, 30), value, jnp.float32),
        "optimizer/0/count": jnp.asarray(value, jnp.int32),
        "half": jnp.full(3, value, jnp.bfloat16),
    }


def like():
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return {
        name: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding)
        for name, a in arrays(0).items()
    }


def saved(store, *steps):
    for step in steps:
        store.save(step, arrays(step), {"note": f"at {step}"})
    store.wait()


def restored(store, step):
    return restore(read_checkpoint(store.folder, step), like())


def never(sentence):
    raise AssertionError(sentence)


@pytest.mark.smoke
def test_what_is_saved_comes_back(store):
    saved(store, 3)
    assert read_checkpoint(store.folder, 3).record["note"] == "at 3"
    for name, array in restored(store, 3).items():
        wanted = arrays(3)[name]
        assert array.dtype == wanted.dtype
        assert np.asarray(array).tobytes() == np.asarray(wanted).tobytes()


def test_the_last_are_kept_and_nothing_else(store):
    saved(store, 1, 2, 3)
    assert store.steps() == [2, 3]
    assert sorted(p.name for p in store.folder.iterdir()) == ["00000002", "00000003"]
    assert store.newest(None, never) == 3
    assert store.newest(2, never) == 2
    assert store.newest(1, never) is None


def test_a_saved_array_may_be_given_away_at_once(store):
    add = jax.jit(lambda tree: jax.tree.map(lambda x: x + 1, tree), donate_argnums=0)
    state = add(arrays(4))
    store.save(5, state, {})
    for _ in range(5):
        state = add(state)
    store.wait()
    assert (np.asarray(restored(store, 5)["params/w"]) == 5).all()


@pytest.mark.parametrize("harm", ["truncate", "alter", "remove"])
def test_a_damaged_one_is_refused_by_name_and_the_one_before_used(store, harm):
    saved(store, 1, 2)
    files = [p for p in (store.path(2) / "arrays").rglob("*") if p.is_file()]
    path = max(files, key=lambda p: p.stat().st_size)
    data = bytearray(path.read_bytes())
    if harm == "remove":
        path.unlink()
    else:
        data = data[:-1] if harm == "truncate" else data[:-1] + bytes([data[-1] ^ 1])
        path.write_bytes(data)
    told = []
    assert store.newest(None, told.append) == 1
    (sentence,) = told
    assert f"the checkpoint {store.path(2)} is refused: its file arrays/" in sentence
    assert "it is now 00000002.refused, and the one before it is used" in sentence
    assert store.steps() == [1]
    saved(store, 2)
    assert store.newest(None, never) == 2


def test_an_unfinished_one_is_none(store):
    saved(store, 1)
    shutil.copytree(store.path(1), store.path(2).with_suffix(".unfinished"))
    assert store.newest(None, never) == 1
    saved(store, 2)
    assert sorted(p.name for p in store.folder.iterdir()) == ["00000001", "00000002"]


def test_arrays_of_another_shape(store):
    saved(store, 1)
    wanted = like()
    wanted["half"] = jax.ShapeDtypeStruct((4,), jnp.bfloat16)
    with pytest.raises(
        BadArgument,
        match=r"does not fit: half is bfloat16\[3\] in it and bfloat16\[4\]",
    ):
        restore(read_checkpoint(store.folder, 1), wanted)
    del wanted["half"]
    with pytest.raises(BadArgument, match=r"half is bfloat16\[3\] in it and absent in"):
        restore(read_checkpoint(store.folder, 1), wanted)


def test_those_after_a_step_are_dropped(store):
    saved(store, 1, 2)
    store.drop_after(1)
    assert store.steps() == [1]


def test_a_disk_without_room(store, monkeypatch):
    saved(store, 1)
    usage = shutil.disk_usage(store.folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100))
    with pytest.raises(BadArgument, match=r"No space left on device; it takes about"):
        saved(store, 2)
    monkeypatch.undo()
    assert store.newest(None, never) == 1
    assert [path.name for path in store.folder.iterdir()] == ["00000001"]


CHILD = """
import logging, pathlib, resource, sys
import jax.numpy as jnp
from glam.train.checkpoint import Store, read_checkpoint, restore
from ir.errors import BadArgument

logging.getLogger("absl").setLevel(logging.CRITICAL)
store = Store(pathlib.Path(sys.argv[1]), keep=2)

def save(step):
    store.save(step, {"w": jnp.ones(1000)}, {})
    store.wait()

save(1)
before = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
try:
    save(2)
except BadArgument as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, before)
print(store.newest(None, print), sorted(p.name for p in store.folder.iterdir()))
save(2)
print(store.newest(None, print))
store.close()
"""


def test_a_write_that_fails_halfway(tmp_path):
    """Files of the child may be no longer than a limit, as on a full disk."""
    command = [sys.executable, "-c", CHILD, str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert ran.returncode == 0, ran.stderr
    sentence, after, end = ran.stdout.splitlines()
    assert sentence.startswith(f"the checkpoint {tmp_path}/00000002 could not be writ")
    assert "File too large" in sentence
    assert "that of step 1 is whole: make room" in sentence
    assert (after, end) == ("1 ['00000001']", "2")
