"""Canonicalize: constants folded, identities gone, equal ops merged, dead ops gone."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ir import mlir
from ir.build import constant
from ir.op import attributes_of, build
from ir.passes.base import Pass
from ir.scalar_ops import BY_OP
from ir.types import from_attribute, from_mlir, to_attribute


@dataclass(frozen=True)
class Canonicalize(Pass):
    """Bring every function to its plainest form; running it again changes nothing.

    Conversions of a dispatched tensor to a wider dtype move behind the dispatch, so
    that rows are fetched in the narrower one.
    """

    name: ClassVar[str] = "canonicalize"

    def apply(self, module: mlir.Module) -> None:
        for function in mlir.functions(module).values():
            block = mlir.entry(function)
            for op in list(block.operations):
                for region in op.operation.regions:
                    for inner in region.blocks:
                        _fold(inner)
                        _merge(inner)
                        _drop_dead(inner)
            _drop_identities(block)
            _sink_conversions(block)
            _prune_results(block)
            _merge(block)
            _drop_dead(block)


def _sink_conversions(block: mlir.Block) -> None:
    """dispatch(convert(x)) -> convert(dispatch(x)), where x is the narrower."""
    for op in list(block.operations):
        if op.operation.name != "moe.dispatch":
            continue
        x, choice = op.operation.operands
        source = mlir.producer(x)
        if source is None or not _widens(source):
            continue
        with mlir.InsertionPoint(op):
            at = op.operation.location
            (rows,) = build(
                "moe.dispatch", [source.operands[0], choice], at, **attributes_of(op)
            )
            converted = _copied_map(source, rows, op.operation.results[0].type)
        op.operation.results[0].replace_all_uses_with(converted)


def _copied_map(
    source: mlir.Operation, rows: mlir.Value, kind: mlir.Type
) -> mlir.Value:
    """A map of one operand and one result on another operand, with its vjp."""
    made = mlir.create(
        source.name, [rows], [kind], mlir.attributes(source), source.location, regions=2
    )
    for old, new in zip(source.regions, made.regions, strict=True):
        for inner in old.blocks:
            target = mlir.add_block(new, [a.type for a in inner.arguments])
            yielded = mlir.copy_region(old, target, list(target.arguments))
            with mlir.InsertionPoint(target):
                mlir.create("moe.yield", yielded, [], None, source.location)
    return made.results[0]


def _widens(op: mlir.Operation) -> bool:
    """Whether an op is a conversion from a narrower to a wider floating point."""
    if op.name != "moe.map" or len(op.operands) != 1:
        return False
    names = [inner.operation.name for inner in op.regions[0].blocks[0].operations]
    before, after = (from_mlir(v.type) for v in (op.operands[0], op.results[0]))
    wider = _BYTES.get(after.dtype, 0) > _BYTES.get(before.dtype, 8)
    return names == ["stablehlo.convert", "moe.yield"] and wider


_BYTES = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}


def _fold(block: mlir.Block) -> None:
    """Scalar ops of constants become constants; x * 1 and x + 0 become x."""
    for op in list(block.operations):
        row = BY_OP.get(op.operation.name)
        if row is None or len(op.operation.results) != 1:
            continue
        result = op.operation.results[0]
        known = [_constant_of(value) for value in op.operation.operands]
        if all(value is not None for value in known):
            kind, given = (
                from_mlir(result.type),
                from_mlir(op.operation.operands[0].type),
            )
            dtype = np.float64 if given.is_float else np.dtype(given.dtype)
            with np.errstate(all="ignore"):
                folded = row.numpy(*(np.asarray(v, dtype) for v in known))
            with mlir.InsertionPoint(op):
                result.replace_all_uses_with(
                    constant(kind, folded, op.operation.location)
                )
        elif row.op in _NEUTRAL and _NEUTRAL[row.op] in known:
            position = known.index(_NEUTRAL[row.op])
            result.replace_all_uses_with(op.operation.operands[1 - position])


_NEUTRAL = {"stablehlo.multiply": 1.0, "stablehlo.add": 0.0}


def _constant_of(value: mlir.Value) -> Any:
    op = mlir.producer(value)
    if op is None or op.name != "stablehlo.constant":
        return None
    number = from_attribute(op.attributes["value"])
    return number if isinstance(number, int | float | bool) else None


def _drop_identities(block: mlir.Block) -> None:
    """A map that yields an operand as it came is that operand."""
    for op in list(block.operations):
        if op.operation.name != "moe.map":
            continue
        inner = op.operation.regions[0].blocks[0]
        *_, last = inner.operations
        arguments = list(inner.arguments)
        for result, value in zip(
            op.operation.results, last.operation.operands, strict=True
        ):
            if value in arguments:
                operand = op.operation.operands[arguments.index(value)]
                result.replace_all_uses_with(operand)


def _prune_results(block: mlir.Block) -> None:
    """A map of which only some results are used keeps those."""
    for op in list(block.operations):
        results = list(op.operation.results)
        used = [i for i, result in enumerate(results) if len(list(result.uses))]
        has_vjp = op.operation.name == "moe.map" and len(op.operation.regions[1].blocks)
        if (
            op.operation.name != "moe.map"
            or has_vjp
            or not 0 < len(used) < len(results)
        ):
            continue
        told = attributes_of(op)
        with mlir.InsertionPoint(op):
            made = mlir.create(
                "moe.map",
                list(op.operation.operands),
                [results[i].type for i in used],
                {
                    "name": to_attribute(told["name"]),
                    "results": to_attribute([told["results"][i] for i in used]),
                },
                op.operation.location,
                regions=2,
            )
        source = op.operation.regions[0]
        kinds = [a.type for a in source.blocks[0].arguments]
        target = mlir.add_block(made.regions[0], kinds)
        yielded = mlir.copy_region(source, target, list(target.arguments))
        with mlir.InsertionPoint(target):
            kept = [yielded[i] for i in used]
            mlir.create("moe.yield", kept, [], None, op.operation.location)
        _drop_dead(target)
        for i, result in zip(used, made.results, strict=True):
            results[i].replace_all_uses_with(result)


def _merge(block: mlir.Block) -> None:
    """Replace an op by an earlier one of the same name, operands and contents."""
    seen: dict[Any, mlir.Operation] = {}
    for op in list(block.operations):
        operation = op.operation
        if not operation.results:
            continue
        key = (
            operation.name,
            tuple(operation.operands),
            str(sorted((n, str(a)) for n, a in mlir.attributes(operation).items())),
            tuple(str(result.type) for result in operation.results),
            tuple(mlir.region_text(region) for region in operation.regions),
        )
        earlier = seen.setdefault(key, operation)
        if earlier is operation:
            continue
        for old, new in zip(operation.results, earlier.results, strict=True):
            old.replace_all_uses_with(new)


def _drop_dead(block: mlir.Block) -> None:
    """Erase ops whose results nobody uses; no op of ours has side effects."""
    for op in reversed(list(block.operations)):
        results = list(op.operation.results)
        if results and not any(len(list(result.uses)) for result in results):
            op.operation.erase()
