"""The demo, step by step; each step prints what it found."""

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate

from ir import mlir
from ir.op import attributes_of
from moegen.compiler import compile
from moegen.demo.rivals import (
    Timing,
    Work,
    capacity_einsum,
    dense,
    interleaved,
    ragged_dot,
)
from moegen.demo.text import BARS, PLAIN_BARS, chart, embed, text_bytes, trimmed
from moegen.demo.truth import route, sample, token_truth, units_truth
from moegen.layers import find_layer
from moegen.operator import Op

Array = NDArray[Any]
Progress = Callable[[str], None]

SAMPLE = 64
UNITS = 16
EXPERTS_COMPARED = 4
BOUND = 1e-5
FULL = {"tokens": 2048, "model": 768, "hidden": 3072, "experts": 64, "k": 2}


@dataclass
class Story:
    """What the demo is about, and what it learned."""

    sizes: Mapping[str, int] = field(default_factory=lambda: dict(FULL))
    small: Mapping[str, int] = field(
        default_factory=lambda: {"tokens": 256, "experts": 8}
    )
    cache: Path | None = None
    rounds: int = 3
    progress: Progress = lambda text: None
    errors: dict[str, float] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return all(error <= BOUND for error in self.errors.values())


def tell(story: Story) -> Story:
    """Run the whole demo, printing as it goes."""
    begin = time.perf_counter()
    op = _compile(story)
    path, ids = text_bytes(story.sizes["tokens"])
    x = embed(ids, story.sizes["model"])
    print(
        f"\nInput: the first {ids.size:,} bytes of {path}, as random unit-RMS vectors."
    )
    story.progress("drawing parameters")
    params = op.init(jax.random.key(0))
    _judge(story, op, params, x)
    _race(story, op, params, x)
    _race_small(story, x)
    print(f"\nDone in {time.perf_counter() - begin:.0f} s.")
    return story


def measured() -> str:
    return f"measured on {jax.default_backend()}, jax {jax.__version__}"


def _compile(story: Story) -> Op:
    layer = find_layer("glam")
    story.progress("compiling the layer")
    begin = time.perf_counter()
    op = compile(layer, cache=story.cache, **dict[str, Any](story.sizes))
    seconds = time.perf_counter() - begin
    sizes = ", ".join(f"{name} {value}" for name, value in op.sizes.items())
    print(f"Layer glam: {sizes}\n")
    print(f"After trace:\n{trimmed(op.stages['trace'])}\n")
    print(f"After schedule:\n{trimmed(op.stages['schedule'])}\n")
    lines = op.source.count("\n")
    print(f"Emitted module, {lines} lines that import only jax: {op.path}")
    print(f"From the layer to the loaded module: {seconds:.2f} s ({measured()})")
    return op


def _judge(story: Story, op: Op, params: Any, x: Array) -> None:
    """Forward and gradient, against float64 on a sample."""
    story.progress("running forward and gradient (XLA compiles first)")
    weight = op.sizes["balance_weight"]
    d_y = np.random.default_rng(1).standard_normal(x.shape).astype(np.float32)
    y, aux = jax.jit(op)(params, jnp.asarray(x))
    d_params, d_x = _gradient(op)(params, jnp.asarray(x), jnp.asarray(d_y))
    story.progress("routing every token in float64")
    host = {name: np.asarray(a) for name, a in _in_first(params).items()}
    sizes = {n: op.sizes[n] for n in op.sizes}
    routed = route(find_layer("glam"), sizes, x, host["router"])
    picked = sample(routed, SAMPLE)
    story.progress(f"working out {picked.size} tokens in float64")
    truths = [token_truth(t, routed, x, d_y, host, weight) for t in picked]
    _record(story, "output", np.asarray(y)[picked], np.stack([a for a, _ in truths]))
    _record(
        story,
        "gradient of x",
        np.asarray(d_x)[picked],
        np.stack([b for _, b in truths]),
    )
    units = np.linspace(0, op.sizes["hidden"] - 1, UNITS).astype(int)
    busy = np.argsort(-routed.load)[:: max(1, routed.load.size // EXPERTS_COMPARED)]
    pairs = [units_truth(units, routed, x, d_y, host, e) for e in busy]
    made = {name: np.asarray(a) for name, a in _in_first(d_params).items()}
    d_wi, d_wo = made["wi"][busy][:, :, units], made["wo"][busy][:, units]
    _record(story, "gradient of wi", d_wi, np.stack([a for a, _ in pairs]))
    _record(story, "gradient of wo", d_wo, np.stack([b for _, b in pairs]))
    _record(story, "loss", np.asarray(aux["loss"]), np.asarray(routed.loss))
    load = np.asarray(aux["metrics"]["load"])
    same = np.array_equal(load, routed.load)
    story.errors["load of every expert"] = 0.0 if same else np.inf
    _tell_judgement(story, op, routed, picked.size, busy.size, aux)


def _record(story: Story, name: str, got: Array, truth: Array) -> None:
    size = float(np.linalg.norm(truth))
    story.errors[name] = float(np.linalg.norm(got - truth)) / (size or 1.0)


def _gradient(op: Op) -> Callable[..., Any]:
    """Gradients of sum(y * d_y) + loss, compiled."""

    def total(params: Any, x: jax.Array, d_y: jax.Array) -> jax.Array:
        y, aux = op(params, x)
        loss: jax.Array = aux["loss"]
        return jnp.vdot(y.astype(jnp.float32), d_y) + loss

    return jax.jit(jax.grad(total, argnums=(0, 1)))


def _tell_judgement(
    story: Story, op: Op, routed: Any, tokens: int, experts: int, aux: Any
) -> None:
    capacity = _capacity(op)
    load = np.asarray(aux["metrics"]["load"])
    dropped, dead = int(aux["metrics"]["dropped"]), int(aux["metrics"]["dead"])
    encoding = (sys.stdout.encoding or "ascii").lower()
    bars = BARS if encoding.startswith("utf") else PLAIN_BARS
    print(f"\nRows per expert (a full bar is the capacity, {capacity}):")
    print(chart(load, capacity, bars))
    choices = op.sizes["tokens"] * op.sizes["k"]
    print(
        f"{choices:,} choices, {dropped:,} dropped over capacity "
        f"({100 * dropped / choices:.0f}%), {dead} experts without rows"
    )
    near = int(routed.near.sum())
    print(
        f"\nAgainst float64: the interpreter routes all tokens ({near} near-ties left "
        f"out); NumPy works out {tokens} tokens,\nand {UNITS} hidden units of "
        f"{experts} experts over all their rows. {measured()}"
    )
    rows = [
        [n, f"{e:.1e}", f"{BOUND:.0e}", _yes(e <= BOUND)]
        for n, e in story.errors.items()
    ]
    print(
        tabulate(
            rows, ["tensor", "relative error", "bound", "ok"], disable_numparse=True
        )
    )


def _yes(true: bool) -> str:
    return "yes" if true else "NO"


def _capacity(op: Op) -> int:
    module = mlir.parse(op.stages["trace"])
    for made in mlir.walk(mlir.entry(mlir.functions(module)["forward"])):
        if made.operation.name == "moe.assign":
            return int(attributes_of(made)["capacity"])
    return int(op.sizes["tokens"])


def _in_first(params: Any) -> Any:
    """Weights as [E, in, out], as the rivals and the truth are written."""
    turned = {name: jnp.swapaxes(params[name], 1, 2) for name in ("wi", "wo")}
    return {**params, **turned}


def _race(story: Story, op: Op, params: Any, x: Array) -> None:
    """Forward and gradient beside the one-hot einsum and a dense product."""
    story.progress("timing against the one-hot einsum and a dense product")
    k, capacity = op.sizes["k"], _capacity(op)
    given, d_y = jnp.asarray(x), jnp.ones_like(jnp.asarray(x))
    load = int(op(params, given)[1]["metrics"]["load"].sum())
    rows = jnp.resize(given, (load, x.shape[1]))
    plain, ours = jax.jit(dense), jax.jit(op)
    einsum = jax.jit(lambda p, x: capacity_einsum(p, x, k, capacity))
    rivals = _in_first(params)
    wi, wo = rivals["wi"][0], rivals["wo"][0]
    back = jax.jit(jax.grad(lambda *a: dense(*a).sum(), argnums=(0, 1, 2)))
    gradient = _gradient(op)
    forward: dict[str, Work] = {
        "moegen": lambda: ours(params, given),
        "one-hot capacity einsum": lambda: einsum(rivals, given),
        "dense product of equal FLOPs": lambda: plain(wi, wo, rows),
    }
    both: dict[str, Work] = {
        "moegen": lambda: gradient(params, given, d_y),
        "dense product of equal FLOPs": lambda: back(wi, wo, rows),
    }
    sizes = f"T {x.shape[0]}, E {op.sizes['experts']}, {load} rows"
    story.progress("timing the forward")
    table = _rows(f"forward, {sizes}", interleaved(forward, story.rounds))
    story.progress("timing the gradient")
    table += _rows(f"forward and gradient, {sizes}", interleaved(both, story.rounds))
    _print_times(f"Times, float32, M {x.shape[1]}, H {op.sizes['hidden']}", table)


def _race_small(story: Story, x: Array) -> None:
    """Beside ragged_dot, whose cost on CPU is that of every expert on every row."""
    sizes = {**story.sizes, **story.small}
    story.progress("timing against jax.lax.ragged_dot at a smaller size")
    factor = float(sizes["experts"])  # No token is dropped: ragged_dot drops none.
    layer = find_layer("glam")
    told: dict[str, Any] = {**sizes, "capacity_factor": factor}
    op = compile(layer, cache=story.cache, **told)
    params, given = op.init(jax.random.key(0)), jnp.asarray(x[: sizes["tokens"]])
    rivals = _in_first(params)
    ours, ragged = jax.jit(op), jax.jit(lambda p, x: ragged_dot(p, x, sizes["k"]))
    _record(
        story,
        "moegen and ragged_dot alike",
        np.asarray(ours(params, given)[0]),
        np.asarray(ragged(rivals, given)),
    )
    works: dict[str, Work] = {
        "moegen": lambda: ours(params, given),
        "jax.lax.ragged_dot": lambda: ragged(rivals, given),
    }
    title = f"forward, T {sizes['tokens']}, E {sizes['experts']}, none dropped"
    table = _rows(title, interleaved(works, story.rounds))
    _print_times("Times at a smaller size, where ragged_dot ends in seconds", table)
    difference = story.errors["moegen and ragged_dot alike"]
    print(f"Both outputs agree to {difference:.1e}.")


def _rows(title: str, timings: list[Timing]) -> list[list[str]]:
    return [[title, t.name, f"{t.seconds:.3f}", f"{t.ratio:.2f}"] for t in timings]


def _print_times(title: str, table: list[list[str]]) -> None:
    print(f"\n{title}; {measured()}; ratios are medians of paired rounds:")
    headers = ["what", "by", "seconds", "time / moegen's"]
    align = ("left", "left", "right", "right")
    print(tabulate(table, headers, disable_numparse=True, colalign=align))
