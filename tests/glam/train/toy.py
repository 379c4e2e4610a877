"""A small model that compiles at once, batches of numbers for it, and runs of both."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from glam.train.checkpoint import Store, read_checkpoint, restore
from glam.train.efficiency import Peak
from glam.train.facts import Speed
from glam.train.learner import Learner
from glam.train.parallel import all_devices
from glam.train.plan import CheckpointSettings, OptimizerSettings, Plan, TrainSettings
from glam.train.record import Record, read
from glam.train.resume import Keeper
from glam.train.run import Run
from glam.train.spike import SpikeRule
from glam.train.stop import StopRequest
from glam.train.validation import validation

WIDTH, ROWS = 6, 8
RULE = SpikeRule(window=4, patience=2, skips=2, margin=1)


def toy(width=WIDTH, name="toy"):
    """Two stacked layers and a linear head, trained to repeat a fixed function."""

    def init(key):
        a, b = jax.random.split(key)
        return {
            "layers": {"w": jax.random.normal(a, (2, width, width)) / width**0.5},
            "head": jax.random.normal(b, (width,)),
        }

    def loss(params, batch, key):
        x = batch["x"]
        for layer in range(2):
            x = x + jnp.tanh(x @ params["layers"]["w"][layer])
        error = x @ params["head"] - batch["y"]
        return (error**2).mean(), {"error": jnp.abs(error).mean()}

    stacked = {"layers": {"w": True}, "head": False}
    identity = {"name": name, "width": width}
    return Learner(init, loss, stacked, identity, 6.0 * width**2)


class Numbers:
    """Endless seeded batches of this process' rows.

    Those whose numbers are in `poisoned` hold a NaN; those in `huge` have targets that
    make a huge loss. Before batch n is given, `before[n]` is called.
    """

    def __init__(self, poisoned=(), huge=(), before=None, seed=0):
        self.poisoned, self.huge = set(poisoned), set(huge)
        self.before, self.seed, self.at = before or {}, seed, 0

    def __next__(self):
        self.before.get(self.at, lambda: None)()
        rng = np.random.default_rng((self.seed, self.at))
        x = rng.normal(size=(ROWS, WIDTH)).astype(np.float32)
        y = np.sin(x.sum(1)).astype(np.float32)
        if self.at in self.poisoned:
            x[0, 0] = np.nan
        if self.at in self.huge:
            y += 1000
        self.at += 1
        share = ROWS // jax.process_count()
        own = slice(jax.process_index() * share, (jax.process_index() + 1) * share)
        return {"x": x[own], "y": y[own]}

    def get_state(self):
        return {"at": self.at}

    def set_state(self, state):
        self.at = state["at"]


class Told:
    """A screen that remembers."""

    def __init__(self):
        self.sentences, self.steps = [], []

    def say(self, sentence):
        self.sentences.append(sentence)

    def step(self, facts):
        self.steps.append(facts)


def plan(steps, every=4, keep=3, rule=RULE, **train):
    return Plan(
        TrainSettings(steps, ROWS, **train),
        OptimizerSettings(0.1, 5),
        CheckpointSettings(every, keep),
        rule,
    )


def train(folder, plan, batches=None, learner=None, screen=None, held_out=None):
    """Run the plan in a folder; the outcome."""
    learner, screen = learner or toy(), screen or Told()
    primary = jax.process_index() == 0
    store = Store(Path(folder) / "checkpoints", plan.checkpoint.keep, primary)
    record = Record(Path(folder) / "metrics.jsonl") if primary else None
    keeper = Keeper(store, record, learner.identity, plan.to_json(), screen.say)
    validate = None
    if held_out is not None:
        validate = validation(learner, held_out, 2, 1, all_devices())
    run = Run(
        plan,
        learner,
        batches or Numbers(),
        keeper,
        screen,
        Speed(ROWS, learner.flops, Peak(1e9, 1, "assumed")),
        lambda: None,
        validate,
    )
    try:
        with StopRequest() as stop:
            return run.go(stop)
    finally:
        store.close()
        if record:
            record.close()


def losses(folder):
    """The loss of each step in the order of the record."""
    lines = read(Path(folder) / "metrics.jsonl")
    return [(line["step"], line["loss"]) for line in lines if "event" not in line]


def events(folder, name):
    lines = read(Path(folder) / "metrics.jsonl")
    return [line for line in lines if line.get("event") == name]


def weights(folder, step):
    """Every array of a checkpoint by name, as dtype and bytes."""
    found = read_checkpoint(Path(folder) / "checkpoints", step)
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    like = {
        name: jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)
        for name, (shape, dtype) in found.record["arrays"].items()
    }
    arrays = restore(found, like)
    return {n: (str(a.dtype), np.asarray(a).tobytes()) for n, a in arrays.items()}
