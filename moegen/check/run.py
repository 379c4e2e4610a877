"""Check a layer: each routing compiled, run, differentiated and compared."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from backends.schedule_choices import NO_CHOICES, Choices
from ir import mlir
from ir.errors import LayerError
from ir.op import operand_types
from moegen.check import oracle
from moegen.check.compare import BOUNDS, Finding, compare, holds
from moegen.check.inference import inference_findings, inference_program
from moegen.check.inputs import (
    Given,
    draw_inputs,
    draw_params,
    number_of_choices,
    unusable,
)
from moegen.check.routings import ROUTINGS, Routing, sizes_for
from moegen.compiler import compile
from moegen.operator import Op
from moegen.signature import Layer, read_signature

Array = NDArray[Any]
Program = Callable[..., Any]

PROOF_BOUND = 1e-5
_NEAR = {"float32": 1e-5, "bfloat16": 1e-2}


@dataclass(frozen=True)
class Case:
    """One layer under one routing; `skipped` says why it does not apply."""

    layer: str
    dtype: str
    routing: str
    sizes: Mapping[str, Any] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    skipped: str = ""

    @property
    def ok(self) -> bool:
        return all(finding.ok for finding in self.findings)

    @property
    def worst(self) -> Finding | None:
        """The finding nearest to its bound, or furthest beyond it."""
        ratio = [(f.error / f.bound if f.bound else f.error) for f in self.findings]
        return self.findings[int(np.argmax(ratio))] if ratio else None


@dataclass
class _Compiled:
    """Ops and their programs by sizes, so that routings share them."""

    layer: Layer
    target: str
    dtype: str
    cache: Path | None
    interpret: bool
    weights: str | None
    schedule: Choices
    made: dict[str, tuple[Op, Program]] = field(default_factory=dict)

    def at(self, sizes: Mapping[str, Any]) -> tuple[Op, Program]:
        key = repr(sorted(sizes.items()))
        if key not in self.made:
            op = compile(
                self.layer,
                self.target,
                self.dtype,
                self.cache,
                interpret=self.interpret,
                weights=self.weights,
                schedule=self.schedule,
                **sizes,
            )
            inference = op.weights is not None
            run = inference_program(op) if inference else jax.jit(_program(op))
            self.made[key] = (op, run)
        return self.made[key]


def check(
    layer: Layer,
    target: str = "host",
    dtype: str = "float32",
    sizes: Mapping[str, Any] | None = None,
    routings: Sequence[str] = tuple(ROUTINGS),
    seed: int = 0,
    reruns: int = 100,
    cache: Path | None = None,
    interpret: bool = False,
    weights: str | None = None,
    schedule: Choices = NO_CHOICES,
) -> list[Case]:
    """Compare a layer with the oracle under each routing; `sizes` win over small ones.

    With `interpret` an accelerator's module runs on this machine, slowly; `schedule` is
    as for `moegen.compile`. With `weights` of one byte there are no gradients, and the
    truth is what the weights are worth then; see `moegen.check.inference`.
    The first routing that applies also proves the oracle's gradient by finite
    differences, runs `forward` alone, and is rerun `reruns` times, bit for bit.
    """
    facts = (layer, target, dtype, sizes or {}, routings, seed, reruns, cache)
    return list(check_each(*facts, interpret, weights, schedule))


def check_each(
    layer: Layer,
    target: str,
    dtype: str,
    sizes: Mapping[str, Any],
    routings: Sequence[str],
    seed: int,
    reruns: int,
    cache: Path | None,
    interpret: bool = False,
    weights: str | None = None,
    schedule: Choices = NO_CHOICES,
) -> Iterator[Case]:
    """`check`, one case at a time."""
    signature = read_signature(layer, sizes)
    options = (interpret, weights, schedule)
    compiled = _Compiled(layer, target, dtype, cache, *options)
    main = True
    for name in routings:
        routing = ROUTINGS[name]
        chosen = sizes_for(routing, signature.sizes, sizes)
        if isinstance(chosen, str):
            yield Case(signature.layer, dtype, name, skipped=chosen)
            continue
        try:
            op, program = compiled.at(chosen)
        except LayerError as error:
            if main:
                raise
            yield Case(signature.layer, dtype, name, chosen, skipped=str(error))
            continue
        reason = unusable(op, routing)
        if reason:
            yield Case(signature.layer, dtype, name, chosen, skipped=reason)
            continue
        findings = _run(op, program, routing, dtype, seed, reruns if main else 0)
        yield Case(signature.layer, dtype, name, chosen, tuple(findings))
        main = False


def _program(op: Op) -> Program:
    """Everything that a layer computes: results, metrics, and gradients by vjp."""

    def program(params: Any, inputs: Any, cotangents: Any) -> Any:
        moved = {n: a for n, a in inputs.items() if _differentiable(op, n)}

        def forward(params: Any, moved: Any) -> Any:
            output, aux = op(params, **{**inputs, **moved})
            return (output, aux["loss"], aux["losses"]), aux["metrics"]

        results, pull, metrics = jax.vjp(forward, params, moved, has_aux=True)
        return results, metrics, pull(cotangents)

    return program


def _differentiable(op: Op, name: str) -> bool:
    fact = op.inputs[name]
    return fact.tensor.is_float and fact.default != "uniform"


def settle(
    op: Op, routing: Routing, dtype: str, seed: int
) -> tuple[Given, Mapping[str, Array]]:
    """Inputs of a routing without near-ties, and the oracle's results for them."""
    near = _NEAR[_router_dtype(op, dtype)]
    params = draw_params(op, seed)
    inputs = draw_inputs(op, routing, params, seed)
    for attempt in range(1, 9):
        given = _poisoned(op, Given(params, inputs, None), routing)
        results, narrow = oracle.forward(op, given, near)
        if not narrow.any():
            break
        again = draw_inputs(op, routing, params, seed + 1000 * attempt)
        inputs = {name: _mixed(narrow, again[name], inputs[name]) for name in inputs}
    return given, results


def _router_dtype(op: Op, dtype: str) -> str:
    kinds = [
        op.parameters[n].dtype
        for n, axes in op.axes.items()
        if axes[1:] == ("experts",)
    ]
    return kinds[0] if kinds else dtype


def _mixed(narrow: Array, again: Array, before: Array) -> Array:
    if not narrow.ndim:
        return again
    if before.shape[:1] != narrow.shape:
        return before
    return np.where(narrow.reshape(-1, *[1] * (before.ndim - 1)), again, before)


def _poisoned(op: Op, given: Given, routing: Routing) -> Given:
    if not routing.nan:
        return given
    name = next(n for n, f in op.inputs.items() if _differentiable(op, n))
    changed = given.inputs[name].copy()
    token = changed.shape[0] // 3
    changed[token] = np.nan
    return Given(given.params, {**given.inputs, name: changed}, token)


def _run(
    op: Op, program: Program, routing: Routing, dtype: str, seed: int, reruns: int
) -> list[Finding]:
    given, truth = settle(op, routing, dtype, seed)
    if op.weights is not None:
        found = inference_findings(op, program, given, truth, dtype, reruns)
        return [*found[1], *_exact(op, found[0], given)]
    cotangents = _cotangents(op, truth, seed)
    gradients = oracle.gradients(op, given, cotangents)
    arguments = (dict(given.params), dict(given.inputs), _as_tree(cotangents))
    got = _named(op, program(*arguments))
    bound = BOUNDS[dtype]
    both = {**truth, **gradients}
    findings = [
        compare(name, got[name], array, bound, _floor(name, both))
        for name, array in both.items()
    ]
    findings += _exact(op, got, given)
    if reruns:
        findings += _alone(op, given, truth, bound)
        proven = oracle.proof(op, given, cotangents, gradients, seed)
        findings += [
            Finding(f"proof of {n}", e, PROOF_BOUND, _proof_note(e))
            for n, e in proven.items()
        ]
        findings.append(_rerun(op, program, arguments, got, reruns))
    return findings


def _proof_note(error: float) -> str:
    if not np.isnan(error):
        return ""
    return "the layer is not finite for these inputs, so nothing is proved"


def _floor(name: str, truth: Mapping[str, Array]) -> float:
    """Gradients are taken relative to at least a millionth of the largest of them.

    Where gates are normalised over a single choice, a router's gradient is the
    difference of equal terms: its true value is rounding's size, or zero.
    """
    if not name.startswith("d_"):
        return 0.0
    sizes = [
        np.linalg.norm(a[np.isfinite(a)])
        for n, a in truth.items()
        if n.startswith("d_")
    ]
    return 1e-6 * float(max(sizes))


def _cotangents(op: Op, truth: Mapping[str, Array], seed: int) -> dict[str, Array]:
    """A random cotangent for the output, the loss and each loss, in its own dtype."""
    random = np.random.default_rng([seed, 2])
    forward = mlir.functions(op.module)["forward"]
    *_, last = mlir.entry(forward).operations
    made = {}
    for (name, array), kind in zip(truth.items(), operand_types(last), strict=True):
        if not name.startswith("metrics."):
            drawn = np.asarray(random.standard_normal(array.shape))
            made[name] = drawn.astype(jax.numpy.dtype(kind.dtype))
    return made


def _as_tree(cotangents: Mapping[str, Array]) -> Any:
    losses = {
        n.removeprefix("losses."): a
        for n, a in cotangents.items()
        if n.startswith("losses.")
    }
    return cotangents["output"], cotangents["loss"], losses


def _named(op: Op, results: Any) -> dict[str, Array]:
    """What the program returned, under the names of the IR."""
    (output, loss, losses), metrics, (d_params, d_inputs) = jax.device_get(results)
    named = {"output": output, "loss": loss}
    named |= {f"losses.{n}": a for n, a in losses.items()}
    named |= {f"metrics.{n}": a for n, a in metrics.items()}
    named |= {f"d_{n}": a for n, a in {**d_params, **d_inputs}.items()}
    return {name: np.asarray(array) for name, array in named.items()}


def _exact(op: Op, got: Mapping[str, Array], given: Given) -> list[Finding]:
    """Every choice is counted once; a NaN stays in its token."""
    found = []
    choices = number_of_choices(op)
    if choices and "metrics.load" in got:
        counted = int(got["metrics.load"].sum()) + int(got["metrics.dropped"])
        note = f"{counted} of {choices} choices counted"
        found.append(holds("load + dropped", counted == choices, note))
    if given.poisoned is not None:
        others = np.delete(got["output"], given.poisoned, axis=0).astype(np.float64)
        spread = int((~np.isfinite(others)).any(axis=1).sum())
        found.append(holds("NaN contained", spread == 0, f"in {spread} other tokens"))
    return found


def _alone(
    op: Op, given: Given, truth: Mapping[str, Array], bound: float
) -> list[Finding]:
    """`forward` as inference runs it, without residuals."""
    output, aux = jax.jit(lambda p, i: op(p, **i))(
        dict(given.params), dict(given.inputs)
    )
    found = {"output": np.asarray(output), "loss": np.asarray(aux["loss"])}
    return [compare(f"{n} (jit)", a, truth[n], bound, 0.0) for n, a in found.items()]


def _rerun(
    op: Op, program: Program, arguments: Any, first: Mapping[str, Array], reruns: int
) -> Finding:
    for number in range(reruns):
        again = _named(op, program(*arguments))
        changed = [n for n, a in again.items() if a.tobytes() != first[n].tobytes()]
        if changed:
            note = f"run {number + 2} differs in {', '.join(changed)}"
            return holds(f"{reruns} reruns", False, note)
    return holds(f"{reruns} reruns", True, "")
