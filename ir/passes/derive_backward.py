"""Derive the backward: two more functions beside `forward`.

    forward(inputs, params) -> results                                    (as before)
    forward_residuals(inputs, params) -> results, residuals
    backward(inputs, params, residuals, cotangents) -> gradients

Routing is never done twice: ids, gates and scores are residuals. What is cheap is
computed again from them: elementwise maps, broadcasts, fetched rows. Products of
experts are kept (`keep=true`) or computed again.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from ir import mlir
from ir.build import constant, convert, elementwise
from ir.op import attributes_of
from ir.passes.base import Pass
from ir.passes.vjp_rules import RULES
from ir.rows import row_choices
from ir.types import from_attribute, from_mlir, to_attribute

_RECOMPUTED = {
    "moe.map",
    "moe.dispatch",
    "moe.dispatch_choices",
    "moe.expert_bias",
    "stablehlo.constant",
    "stablehlo.broadcast_in_dim",
    "stablehlo.reshape",
    "stablehlo.transpose",
    "stablehlo.slice",
    "stablehlo.iota",
}


@dataclass(frozen=True)
class DeriveBackward(Pass):
    """Add `forward_residuals` and `backward` for the function `forward`.

    keep: save the products that the backward needs, instead of computing them again.
    """

    name: ClassVar[str] = "derive-backward"
    keep: bool = True

    def apply(self, module: mlir.Module) -> None:
        forward = mlir.functions(module)["forward"]
        residuals = _Backward(module, forward, self.keep).build()
        _add_forward_residuals(module, forward, residuals)


@dataclass
class _Backward:
    module: mlir.Module
    forward: mlir.OpView
    keep: bool
    residuals: list[mlir.Value] = field(default_factory=list)
    here: dict[mlir.Value, mlir.Value] = field(default_factory=dict)
    cotangents: dict[mlir.Value, mlir.Value] = field(default_factory=dict)

    def build(self) -> list[mlir.Value]:
        """Write the function `backward`; returns the forward values it needs."""
        source = mlir.entry(self.forward)
        self.rows = row_choices(source)
        self.facts = mlir.argument_facts(self.forward)
        block = mlir.add_function(
            self.module, "backward", *_signature(source.arguments), self.facts, []
        )
        self.block = block
        self.here.update(zip(source.arguments, block.arguments, strict=True))
        *body, last = list(source.operations)
        with mlir.InsertionPoint(block):
            self.seed(last)
            for made in reversed(body):
                self.pull(made)
            gradients, names = self.gradients(source)
            mlir.create("func.return", gradients, [], None, last.operation.location)
        mlir.finish_function(
            block, self.facts, [to_attribute({"moe.result": n}) for n in names]
        )
        return self.residuals

    def argument(
        self, kind: mlir.Type, location: mlir.Location, fact: dict[str, Any]
    ) -> Any:
        self.facts.append(to_attribute(fact))
        return self.block.add_argument(kind, location)

    def seed(self, last: mlir.OpView) -> None:
        """Cotangents of the output, the loss and each loss become arguments."""
        for value, fact in zip(
            last.operation.operands, mlir.result_facts(self.forward), strict=True
        ):
            name = from_attribute(fact)["moe.result"]
            if name.startswith("metrics."):
                continue
            location = mlir.located(f"d_{name.split('.')[-1]}", None)
            given = self.argument(value.type, location, {"moe.cotangent": name})
            self.add(value, given, last.operation.location)

    def add(self, value: mlir.Value, cotangent: mlir.Value, at: mlir.Location) -> None:
        known = self.cotangents.get(value)
        if known is None:
            self.cotangents[value] = cotangent
            return
        wider = from_mlir(known.type)
        both = [known, convert(cotangent, wider.dtype, at)]
        self.cotangents[value] = elementwise("add", "stablehlo.add", both, at)

    def primal(self, value: mlir.Value) -> mlir.Value:
        """A forward value inside `backward`: an argument, a residual, or again."""
        if value in self.here:
            return self.here[value]
        owner = mlir.producer(value)
        assert owner is not None
        again = owner.name in _RECOMPUTED
        again |= owner.name == "moe.expert_matmul" and not self.keep
        if again:
            operands = [self.primal(v) for v in owner.operands]
            made = mlir.clone(owner, operands)
            self.here.update(zip(owner.results, made.results, strict=True))
        else:
            fact = {"moe.residual": len(self.residuals), "moe.rows": value in self.rows}
            self.residuals.append(value)
            self.here[value] = self.argument(value.type, owner.location, fact)
        return self.here[value]

    def pull(self, made: mlir.OpView) -> None:
        """Apply the op's rule, if any of its results has a cotangent."""
        results = list(made.operation.results)
        given = [self.cotangents.get(result) for result in results]
        rule = RULES.get(made.operation.name)
        if rule is None or not any(given):
            return
        at = made.operation.location
        full = [
            g if g is not None else constant(from_mlir(r.type), 0, at)
            for g, r in zip(given, results, strict=True)
        ]
        for value, cotangent in rule(made, attributes_of(made), full, self.primal, at):
            self.add(value, cotangent, at)

    def gradients(self, source: mlir.Block) -> tuple[list[mlir.Value], list[str]]:
        """The gradient of every argument of floating point; zero where none arrived."""
        found, names = [], []
        for argument, fact in zip(source.arguments, self.facts, strict=False):
            kind, told = from_mlir(argument.type), from_attribute(fact)
            name = told.get("moe.param") or told.get("moe.input")
            if not kind.is_float or told.get("moe.default") == "uniform":
                continue
            at = argument.location
            cotangent = self.cotangents.get(argument)
            if cotangent is None:
                found.append(constant(kind, 0, at))
            else:
                found.append(convert(cotangent, kind.dtype, at))
            names.append(f"d_{name}")
        return found, names


def _signature(arguments: Any) -> tuple[list[Any], list[Any], list[Any]]:
    kinds = [a.type for a in arguments]
    return kinds, [], [a.location for a in arguments]


def _add_forward_residuals(
    module: mlir.Module, forward: mlir.OpView, residuals: list[mlir.Value]
) -> None:
    source = mlir.entry(forward)
    facts = mlir.argument_facts(forward)
    block = mlir.add_function(
        module, "forward_residuals", *_signature(source.arguments), facts, []
    )
    copied = dict(zip(source.arguments, block.arguments, strict=True))
    *body, last = list(source.operations)
    with mlir.InsertionPoint(block):
        for made in body:
            clone = mlir.clone(
                made.operation, [copied[v] for v in made.operation.operands]
            )
            copied.update(zip(made.operation.results, clone.results, strict=True))
        results = [copied[v] for v in (*last.operation.operands, *residuals)]
        mlir.create("func.return", results, [], None, last.operation.location)
    told = [from_attribute(fact) for fact in mlir.result_facts(forward)]
    told += [{"moe.residual": i} for i in range(len(residuals))]
    mlir.finish_function(block, facts, [to_attribute(fact) for fact in told])
    mlir.move_before(block.owner, mlir.functions(module)["backward"])
