"""Runs in processes of their own: killed, many at once, on other devices."""

import json
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from glam.train.parallel import free_port
from tests.glam.train.toy import losses, plan, train, weights

STEPS = 60
LIMIT = 240  # seconds


def start(folder, **options):
    command = [sys.executable, "-m", "tests.glam.train.toy_child", str(folder)]
    return subprocess.Popen(
        [*command, json.dumps(options)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(child):
    out, err = child.communicate(timeout=LIMIT)
    assert child.returncode == 0, err
    return json.loads(out.splitlines()[-1])  # Gloo prints before


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    folder = tmp_path_factory.mktemp("straight")
    train(folder, plan(STEPS))
    return folder


def wait_for_steps(child, folder, count):
    record = folder / "metrics.jsonl"
    deadline = time.monotonic() + LIMIT
    while not record.exists() or record.read_bytes().count(b"loss") < count:
        assert child.poll() is None, child.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_killed_at_a_random_moment(straight, tmp_path):
    moments = random.Random(5)
    for kill in (1, 2):
        child = start(tmp_path, steps=STEPS, every=3, pause=0.02)
        wait_for_steps(child, tmp_path, kill * 12)
        time.sleep(moments.uniform(0, 0.1))
        child.kill()
        child.communicate()
        assert child.returncode == -signal.SIGKILL
    told = end(start(tmp_path, steps=STEPS, every=3))
    assert "going on after step" in told["said"][0]
    assert losses(tmp_path) == losses(straight)
    assert weights(tmp_path, STEPS) == weights(straight, STEPS)


def test_two_processes_and_two_devices_give_the_losses_of_one(straight, tmp_path):
    port = free_port()
    common = {"steps": 20, "processes": 2, "coordinator": f"localhost:{port}"}
    end_all([start(tmp_path, process=n, **common) for n in range(2)])
    wanted = np.array(losses(straight))
    np.testing.assert_allclose(losses(tmp_path), wanted[:20], rtol=1e-4)
    # What two processes saved goes on in one, on two devices.
    told = end(start(tmp_path, steps=30, devices=2))
    assert "going on after step 20" in told["said"][0]
    np.testing.assert_allclose(losses(tmp_path), wanted[:30], rtol=1e-3)


def end_all(children):
    for child in children:
        assert end(child)["ended"] == "done"
