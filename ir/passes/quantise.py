"""Quantise: matrices in one byte an element, with a scale for each output channel.

For inference. The parameter `w` is stored as int8 or fp8, and beside it stands
`w_scale`, float32; a product by `w` is multiplied by the scales of its columns. How the
float parameters become those is a function of its own, `quantise`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ir import mlir
from ir.build import broadcast, convert, elementwise
from ir.errors import BadPassOption, CannotQuantise
from ir.mlir import Value
from ir.narrow import STORED, scale_name
from ir.op import attributes_of, build
from ir.passes.base import Pass
from ir.types import Tensor, from_attribute, from_mlir, to_attribute, to_mlir

_CHOOSES = ("moe.top_k", "moe.expert_choice", "moe.hash", "moe.take")
_PRODUCTS = ("moe.expert_matmul", "stablehlo.dot_general")


@dataclass(frozen=True)
class Quantise(Pass):
    """Store the experts' matrices, and dense ones, in one byte an element.

    dtype: int8, or fp8 (float8_e4m3fn).

    Dense matrices whose products lead to a choice of experts (routers) stay as they
    are, so that tokens go where they went; so do dense ones that anything else than a
    product in float32 uses. There is no backward: `backward` and `forward_residuals`
    are dropped. Raises `CannotQuantise` where experts' matrices are no plain
    parameters, and where there is nothing to store.
    """

    name: ClassVar[str] = "quantise"
    dtype: str = "int8"

    def apply(self, module: mlir.Module) -> None:
        if self.dtype not in STORED:
            raise BadPassOption(
                name=self.name,
                option="dtype",
                value=self.dtype,
                expected=" or ".join(STORED),
            )
        functions = mlir.functions(module)
        for name in ("forward_residuals", "backward"):
            if name in functions:
                functions[name].operation.erase()
        forward = functions["forward"]
        axes = _summed_axes(forward, self.dtype)
        if not axes:
            layer = mlir.string(module.operation, "sym_name")
            reason = "it has no matrix that a product of rows or tokens reads"
            what = f"the layer '{layer}'"
            raise CannotQuantise(what=what, weights=self.dtype, reason=reason)
        _check_names(forward, axes, self.dtype)
        stored = STORED[self.dtype]
        _add_quantise(module, forward, axes, stored)
        mlir.replace(forward, _Rewriter(module, forward, axes, stored).run())


def _parameters(function: mlir.OpView) -> Iterator[tuple[Value, dict[str, Any]]]:
    """The arguments that are parameters, with what is told of them."""
    arguments = mlir.entry(function).arguments
    for argument, fact in zip(arguments, mlir.argument_facts(function), strict=True):
        told = from_attribute(fact)
        if "moe.param" in told:
            yield argument, told


def _summed_axes(function: mlir.OpView, weights: str) -> dict[Value, int]:
    """The matrices to store in one byte, and the axis that their products sum over."""
    block = mlir.entry(function)
    told = dict(_parameters(function))
    routing = _before_choices(block)
    found: dict[Value, int] = {}
    for op in block.operations:
        if op.operation.name not in _PRODUCTS:
            continue
        matrix = op.operation.operands[1]
        plain = matrix in told and from_mlir(matrix.type).is_float
        axes = {_summed_axis(use) for use in matrix.uses} if plain else set()
        (axis,) = axes if len(axes) == 1 else (None,)
        if axis is not None and hash(op.operation) not in routing:
            found[matrix] = axis
        elif op.operation.name == "moe.expert_matmul":
            name = told.get(matrix, {}).get("moe.param", "")
            raise _refusal(op, name, weights, axes)
    return found


def _refusal(
    op: mlir.OpView, name: str, weights: str, axes: set[int | None]
) -> CannotQuantise:
    """Why the matrices of an expert product cannot be stored narrow."""
    what = f"the matrix '{name}'" if name else "an expert_matmul's matrix"
    reason = "it is computed in the layer: pass the parameter itself to the product"
    if name:
        reason = "something else than products reads it: declare a parameter for that"
    if len(axes) > 1 and None not in axes:
        reason = "it is multiplied as [in, out] and as [out, in]: declare two"
    where = mlir.file_and_line(op.operation.location)
    return CannotQuantise(where, what=what, weights=weights, reason=reason)


def _summed_axis(use: Any) -> int | None:
    """The axis that a product sums over, of the matrix on its right; None for others.

    A dense product must leave float32, as `moe.matmul` does.
    """
    op = mlir.user(use)
    if op.operation.name not in _PRODUCTS or use.operand_number != 1:
        return None
    if op.operation.name == "moe.expert_matmul":
        return 2 if attributes_of(op)["transposed"] else 1
    _, axes = mlir.contracting_axes(op)
    matrix, made = (
        from_mlir(v.type) for v in (op.operation.operands[1], op.operation.results[0])
    )
    plain = len(matrix.shape) == 2 and len(axes) == 1 and made.dtype == "float32"
    return axes[0] if plain else None


def _before_choices(block: mlir.Block) -> set[int]:
    """The ops that what chooses experts, or weighs choices, is computed by."""
    found: set[int] = set()
    waiting = [
        value
        for op in block.operations
        if op.operation.name in _CHOOSES
        for value in op.operation.operands
    ]
    while waiting:
        producer = mlir.producer(waiting.pop())
        if producer is not None and hash(producer) not in found:
            found.add(hash(producer))
            waiting.extend(producer.operands)
    return found


def _check_names(forward: mlir.OpView, axes: Mapping[Value, int], weights: str) -> None:
    """Raise if a parameter is called as the scales of another would be."""
    given = list(_parameters(forward))
    names = {told["moe.param"] for _, told in given}
    for matrix, told in given:
        own = scale_name(told["moe.param"])
        if matrix in axes and own in names:
            where = mlir.file_and_line(matrix.location)
            what = f"the matrix '{told['moe.param']}'"
            reason = (
                f"its scales are called '{own}', as another parameter is: rename one"
            )
            raise CannotQuantise(where, what=what, weights=weights, reason=reason)


def _channels(matrix: Value, axis: int) -> Tensor:
    """The type of a matrix' scales."""
    shape = from_mlir(matrix.type).shape
    return Tensor((*shape[:axis], *shape[axis + 1 :]), "float32")


def _add_quantise(
    module: mlir.Module, forward: mlir.OpView, axes: Mapping[Value, int], stored: str
) -> None:
    """Add the function `quantise`: float parameters in, those of `forward` out."""
    given = list(_parameters(forward))
    facts = [to_attribute(told) for _, told in given]
    kinds, places = [v.type for v, _ in given], [v.location for v, _ in given]
    block = mlir.add_function(module, "quantise", kinds, [], places, facts, [])
    results: list[Value] = []
    names: list[str] = []
    with mlir.InsertionPoint(block):
        for (matrix, told), value in zip(given, block.arguments, strict=True):
            made, name = [value], told["moe.param"]
            if matrix in axes:
                sizes = {"axis": axes[matrix], "stored": stored}
                made = build("kernel.quantise", [value], matrix.location, **sizes)
            results.extend(made)
            names.extend([name, scale_name(name)][: len(made)])
        mlir.create("func.return", results, [], None, block.owner.operation.location)
    told_results = [to_attribute({"moe.param": name}) for name in names]
    mlir.finish_function(block, facts, told_results)


class _Rewriter:
    """Writes `forward` anew, on matrices of one byte."""

    def __init__(
        self,
        module: mlir.Module,
        forward: mlir.OpView,
        axes: Mapping[Value, int],
        stored: str,
    ) -> None:
        self.source = mlir.entry(forward)
        self.results = mlir.result_facts(forward)
        self.axes = axes
        self.facts: list[mlir.Attribute] = []
        self.scales: dict[Value, Value] = {}
        self.here: dict[Value, Value] = {}
        self.block = mlir.add_function(module, "forward", [], [], [], [], [])
        given = zip(self.source.arguments, mlir.argument_facts(forward), strict=True)
        for argument, fact in given:
            kind = from_mlir(argument.type)
            if argument in axes:
                kind = kind.with_dtype(stored)
            self.here[argument] = self.argument(kind, argument.location, fact)
            if argument in axes:
                self.add_scales(argument, from_attribute(fact))

    def argument(
        self, kind: Tensor, location: mlir.Location, fact: mlir.Attribute
    ) -> Value:
        self.facts.append(fact)
        return self.block.add_argument(to_mlir(kind), location)

    def add_scales(self, matrix: Value, told: Mapping[str, Any]) -> None:
        """The argument that holds a matrix' scales, right behind it."""
        own, where = scale_name(told["moe.param"]), mlir.file_and_line(matrix.location)
        axes = [a for i, a in enumerate(told["moe.axes"]) if i != self.axes[matrix]]
        fact = to_attribute({"moe.param": own, "moe.axes": axes})
        kind = _channels(matrix, self.axes[matrix])
        self.scales[matrix] = self.argument(kind, mlir.located(own, where), fact)

    def run(self) -> mlir.OpView:
        *body, last = list(self.source.operations)
        with mlir.InsertionPoint(self.block):
            for op in body:
                self.copy(op)
            values = [self.here[v] for v in last.operation.operands]
            mlir.create("func.return", values, [], None, last.operation.location)
        mlir.finish_function(self.block, self.facts, self.results)
        return self.block.owner

    def copy(self, op: mlir.OpView) -> None:
        """Copy an op; a product by a matrix of one byte is scaled behind it."""
        operands, results = list(op.operation.operands), list(op.operation.results)
        if op.operation.name in _PRODUCTS and operands[1] in self.axes:
            dense = op.operation.name == "stablehlo.dot_general"
            sums, scales = self.dense(op) if dense else self.by_experts(op)
            at = op.operation.location
            scaled = elementwise("mul", "stablehlo.multiply", [sums, scales], at)
            self.here[results[0]] = scaled
            return
        made = mlir.clone(op.operation, [self.here[v] for v in operands])
        self.here.update(zip(results, made.results, strict=True))

    def by_experts(self, op: mlir.OpView) -> tuple[Value, Value]:
        """A product of rows by their experts' matrices, and its scales on every row."""
        rows, matrix, choice = op.operation.operands
        told = attributes_of(op) | {"dtype": from_mlir(matrix.type).dtype}
        operands = [self.here[v] for v in (rows, matrix, choice)]
        at = op.operation.location
        (sums,) = build("moe.expert_matmul", operands, at, **told)
        bound = from_mlir(sums.type).shape[0]
        pair = [self.scales[matrix], self.here[choice]]
        (scales,) = build("moe.expert_bias", pair, at, rows=bound)
        return sums, scales

    def dense(self, op: mlir.OpView) -> tuple[Value, Value]:
        """A dense product, and its scales, spread over all but the last axis."""
        left, matrix = op.operation.operands
        at = op.operation.location
        wide = convert(self.here[matrix], from_mlir(matrix.type).dtype, at)
        made = mlir.clone(op.operation, [self.here[left], wide])
        (sums,) = made.results
        kind = from_mlir(sums.type)
        last = [len(kind.shape) - 1]
        return sums, broadcast(self.scales[matrix], kind, last, at)
