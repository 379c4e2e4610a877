"""Two claims of Du et al. 2021 in miniature, with the spread over seeds.

At equal activated FLOPs and tokens, a model with experts reaches a lower held-out loss
than a dense one, each at the better of the learning rates that both try. At equal
tokens, data filtered by quality gives a lower one than unfiltered data, where half of
the raw characters are noise.
Run as `python -m bench.claims`; exit 1 if a claim does not hold at this size.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean, stdev
from typing import Any

import numpy as np
from tabulate import tabulate

from glam.data.batches import batches, one_pass
from glam.data.noise import is_noise, noisy_corpus
from glam.data.sampling import judge
from glam.data.sources import documents
from glam.data.store import TokenStore, pack
from glam.data.tokenizer import ByteTokenizer
from glam.data.training_quality import train_classifier
from glam.model import Config

# Dropless: with capacity factor 2 and bytes for tokens a tenth of the choices found no
# place, so that the model with experts did less work than the dense one.
EXPERTS_MODEL = Config(
    layers=2,
    model=64,
    hidden=192,
    heads=4,
    head=16,
    experts=32,
    vocabulary=ByteTokenizer.vocabulary,
    sequence=128,
    capacity_factor=None,
    activation_dtype="float32",
)
PEAKS, PLATEAU = (0.02, 0.04), 200  # learning rates, and steps before they fall
# Model and training data of each line of the table.
PLAN = (
    ("experts", "clean"),
    ("dense", "clean"),
    ("experts", "filtered"),
    ("experts", "unfiltered"),
)


@dataclass(frozen=True)
class Size:
    """Of every run alike."""

    steps: int
    batch: int
    held_out: int  # batches of the validation part


def dense_of(config: Config) -> Config:
    """A dense model with as many activated FLOPs, or a few more.

    A pair of layers with experts costs k * 2MH + ME (experts, router) + 3MH (GEGLU) a
    token, a pair of dense layers 2 * 3MH'.
    """
    experts = config.experts or 0
    cost = (2 * config.k + 3) * config.hidden + experts
    return replace(config, experts=None, hidden=-(-cost // 6))


def stores() -> dict[str, TokenStore]:
    """Training data by name, and the clean held-out part, as bytes."""
    corpus = noisy_corpus(documents("stdlib"))
    classifier = train_classifier(corpus.positives, corpus.negatives).classifier
    kept = [j.document for j in judge(corpus.raw, classifier) if j.kept]
    texts = {
        "clean": [d for d in corpus.raw if not is_noise(d)],
        "filtered": kept,
        "unfiltered": corpus.raw,
        "held out": corpus.validation,
    }
    return {name: pack(name, held, ByteTokenizer()) for name, held in texts.items()}


Facts = dict[str, float]
Trainer = Callable[[TokenStore, TokenStore, int], Facts]


def trainer(config: Config, size: Size, peak: float) -> Trainer:
    """A function of (data, held-out data, seed): held-out metrics after training.

    The programs are compiled once. `cross_entropy` is in nats a byte.
    """
    import jax
    import jax.numpy as jnp

    from glam.train.adafactor import adafactor
    from glam.train.language_model import language_model
    from glam.train.parallel import all_devices, flags, place
    from glam.train.schedule import InverseSquareRoot
    from glam.train.state import State
    from glam.train.step import train_step
    from glam.train.validation import validation

    mesh = all_devices()
    learner = language_model(config, parts=mesh.size)
    schedule = InverseSquareRoot(peak, PLATEAU)
    optimizer = adafactor(schedule, learner.stacked)
    step = train_step(learner, optimizer, schedule, mesh, seed=0)

    @jax.jit
    def first(key: jax.Array) -> State:
        params, zero = learner.init(key), jnp.zeros((), jnp.int32)
        return State(params, optimizer.init(params), zero, zero)

    told: dict[str, TokenStore] = {}

    def held_out() -> Any:
        store = told["held out"]
        return one_pass(store, ByteTokenizer(), size.batch, config.sequence)

    validate = validation(learner, held_out, size.held_out, 1, mesh)

    def train(data: TokenStore, test: TokenStore, seed: int) -> Facts:
        told["held out"] = test
        state, stop = first(jax.random.key(seed)), flags(False, mesh)
        rows = batches(data, ByteTokenizer(), size.batch, config.sequence, seed)
        for _ in range(size.steps):
            state, _ = step(state, place(next(rows), 1, mesh), stop)
        return validate(state.params)

    return train


def row(model: str, data: str, losses: Sequence[float]) -> dict[str, Any]:
    """One line of the table."""
    spread = stdev(losses) if len(losses) > 1 else None
    each = " ".join(f"{loss:.4f}" for loss in losses)
    return {"model": model, "data": data, "mean": mean(losses), "sd": spread} | {
        "by seed": each
    }


def claim(name: str, better: Sequence[float], worse: Sequence[float]) -> dict[str, Any]:
    """Whether the one has the lower loss, seed by seed and on the mean."""
    gains = np.subtract(worse, better)
    return {
        "claim": name,
        "gain, nats a byte": float(gains.mean()),
        "seeds that agree": f"{int((gains > 0).sum())} of {len(gains)}",
        "holds": bool(gains.mean() > 0),
    }


def tuned(
    config: Config, size: Size, data: Mapping[str, TokenStore], name: str
) -> tuple[Trainer, float, Facts]:
    """The trainer of the better peak on clean data with seed 0, and what it found."""
    tried: dict[float, tuple[Trainer, Facts]] = {}
    for peak in PEAKS:
        run = trainer(config, size, peak)
        tried[peak] = run, run(data["clean"], data["held out"], 0)
        say(f"{name}, peak {peak}, seed 0: {tried[peak][1]['cross_entropy']:.4f}")
    best = min(tried, key=lambda peak: tried[peak][1]["cross_entropy"])
    return tried[best][0], best, tried[best][1]


def measured(size: Size, seeds: int) -> dict[str, Any]:
    """Train everything; the two tables and what they rest on."""
    from glam.train.language_model import flops_a_token

    data, dense = stores(), dense_of(EXPERTS_MODEL)
    models = {"experts": EXPERTS_MODEL, "dense": dense}
    found = {name: tuned(config, size, data, name) for name, config in models.items()}
    losses: dict[tuple[str, str], list[float]] = {}
    rows = []
    for model, name in PLAN:
        run, peak, first = found[model]
        facts = [
            first
            if seed == 0 and name == "clean"
            else run(data[name], data["held out"], seed)
            for seed in range(seeds)
        ]
        losses[model, name] = [fact["cross_entropy"] for fact in facts]
        rows.append(row(model, name, losses[model, name]) | {"peak": peak})
        if "load_ratio" in first:
            rows[-1]["load max/mean"] = mean(fact["load_ratio"] for fact in facts)
        say(f"{model}, {name}: {rows[-1]['by seed']}")
    experts, filtered = losses["experts", "clean"], losses["experts", "filtered"]
    return {
        "rows": rows,
        "claims": [
            claim("experts beat dense", experts, losses["dense", "clean"]),
            claim("filtered beats raw", filtered, losses["experts", "unfiltered"]),
        ],
        "tokens a run": size.steps * size.batch * EXPERTS_MODEL.sequence,
        "training FLOPs a token": {n: flops_a_token(c) for n, c in models.items()},
        "data, bytes": {name: store.tokens for name, store in data.items()},
    }


def say(sentence: str) -> None:
    """Progress, to standard error."""
    print(sentence, file=sys.stderr, flush=True)


def main(arguments: Sequence[str]) -> int:
    """Print tables, or JSON; 1 if a claim does not hold."""
    parser = argparse.ArgumentParser(prog="python -m bench.claims", description=__doc__)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    import jax

    # XLA runs most operations of a CPU device on one core.
    jax.config.update("jax_num_cpu_devices", 2)
    found = measured(Size(given.steps, given.batch, held_out=32), given.seeds)
    if given.json:
        print(json.dumps(found, indent=2))
    else:
        print("Held-out cross-entropy, nats a byte, after training on this CPU:\n")
        print(tabulate(found["rows"], headers="keys", floatfmt=".4f"))
        print()
        print(tabulate(found["claims"], headers="keys", floatfmt=".4f"))
        rest = ("tokens a run", "training FLOPs a token", "data, bytes")
        print("\n" + "\n".join(f"{name}: {found[name]}" for name in rest))
    return 0 if all(c["holds"] for c in found["claims"]) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
