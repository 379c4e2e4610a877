"""The gradient of each op, as more ops: one rule an op.

A rule gets the op, its attributes, its results' cotangents and `primal`, which brings a
forward value into the backward function; it yields (operand, cotangent) pairs.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ir import mlir
from ir.build import (
    array_attribute,
    broadcast,
    constant,
    convert,
    dot_general,
    elementwise,
    mapped,
    op,
    reduce,
)
from ir.errors import IllegalIR
from ir.mlir import Value
from ir.op import build, place_of
from ir.types import Tensor, from_attribute, from_mlir, to_attribute

Pairs = Iterator[tuple[Value, Value]]
Primal = Callable[[Value], Value]
Rule = Callable[
    [mlir.OpView, dict[str, Any], Sequence[Value], Primal, mlir.Location], Pairs
]


def _softmax(made: Any, facts: Any, cts: Any, primal: Primal, at: Any) -> Pairs:
    scores = primal(made.operation.results[0])
    yield made.operation.operands[0], *build("moe.softmax_grad", [scores, cts[0]], at)


def _take(made: Any, facts: Any, cts: Any, primal: Primal, at: Any) -> Pairs:
    scores, choice = made.operation.operands
    experts = from_mlir(scores.type).shape[1]
    yield scores, *build("moe.put", [cts[0], primal(choice)], at, experts=experts)


def _dispatch(made: Any, facts: Any, cts: Any, primal: Primal, at: Any) -> Pairs:
    x, choice = made.operation.operands
    back = [cts[0], primal(choice)]
    yield x, *build("moe.combine", back, at, experts=facts["experts"], dtype="float32")


def _dispatch_choices(
    made: Any, facts: Any, cts: Any, primal: Primal, at: Any
) -> Pairs:
    values, choice = made.operation.operands
    back = [cts[0], primal(choice)]
    yield values, *build("moe.collect", back, at, experts=facts["experts"])


def _expert_matmul(made: Any, facts: Any, cts: Any, primal: Primal, at: Any) -> Pairs:
    rows, weights, choice = made.operation.operands
    back = [cts[0], primal(weights), primal(choice)]
    yield (
        rows,
        *build("moe.expert_matmul", back, at, transposed=not facts["transposed"]),
    )
    yield weights, _weight_gradient(made, facts, primal(rows), cts[0], primal, at)


def _weight_gradient(
    made: Any, facts: Any, rows: Value, cotangent: Value, primal: Primal, at: Any
) -> Value:
    _, weights, choice = made.operation.operands
    kind = from_mlir(weights.type)
    pair = [cotangent, rows] if facts["transposed"] else [rows, cotangent]
    (outer,) = build(
        "moe.expert_outer",
        [*pair, primal(choice)],
        at,
        experts=kind.shape[0],
        dtype=kind.dtype,
    )
    return outer


def _expert_bias(made: Any, facts: Any, cts: Any, primal: Primal, at: Any) -> Pairs:
    bias, choice = made.operation.operands
    kind = from_mlir(bias.type)
    sizes = {"experts": kind.shape[0], "dtype": kind.dtype}
    yield bias, *build("moe.expert_sum", [cts[0], primal(choice)], at, **sizes)


def _combine(made: Any, facts: Any, cts: Any, primal: Primal, at: Any) -> Pairs:
    rows, choice, *gates = made.operation.operands
    sizes = {"experts": facts["experts"], "rows": from_mlir(rows.type).shape[0]}
    (fetched,) = build("moe.dispatch", [cts[0], primal(choice)], at, **sizes)
    if not gates:
        yield rows, fetched
        return
    (gate,) = build(
        "moe.dispatch_choices", [primal(gates[0]), primal(choice)], at, **sizes
    )
    yield from _gated(rows, gate, fetched, gates[0], choice, facts, primal, at)


def _gated(
    rows: Value,
    gate: Value,
    fetched: Value,
    gates: Value,
    choice: Value,
    facts: Any,
    primal: Primal,
    at: Any,
) -> Pairs:
    """Cotangents of gates and rows, without computing the rows again.

    Where rows = a W, the gate's cotangent <d, a W> is <d W^T, a>, and the cotangent of
    a is gate * (d W^T): one product serves both.
    """
    producer = mlir.producer(rows)
    linear = producer is not None and producer.name == "moe.expert_matmul"
    if producer is None or not linear or len(list(rows.uses)) != 1:
        (dots,) = build("moe.row_dot", [fetched, primal(rows)], at)
        yield gates, *_collected(dots, choice, facts, primal, at)
        yield rows, _scaled(fetched, gate, at)
        return
    inner, weights, _ = producer.operands
    told = {k: from_attribute(producer.attributes[k]) for k in ("transposed",)}
    (through,) = build(
        "moe.expert_matmul",
        [fetched, primal(weights), primal(choice)],
        at,
        transposed=not told["transposed"],
    )
    (dots,) = build("moe.row_dot", [through, primal(inner)], at)
    yield gates, *_collected(dots, choice, facts, primal, at)
    yield inner, _scaled(through, gate, at)
    share = _scaled(fetched, gate, at)
    made = producer.opview
    yield weights, _weight_gradient(made, told, primal(inner), share, primal, at)


def _collected(
    dots: Value, choice: Value, facts: Any, primal: Primal, at: Any
) -> list[Value]:
    return build("moe.collect", [dots, primal(choice)], at, experts=facts["experts"])


def _scaled(rows: Value, gate: Value, at: Any) -> Value:
    """rows * gate, in float32."""
    kind = from_mlir(rows.type).with_dtype("float32")
    spread = broadcast(convert(gate, "float32", at), kind, [0, 1], at)
    return elementwise(
        "mul", "stablehlo.multiply", [convert(rows, "float32", at), spread], at
    )


def _map(made: Any, facts: Any, cts: Any, primal: Primal, at: Any) -> Pairs:
    """The vjp region becomes a map of its own, on the operands that it reads."""
    region = made.operation.regions[1]
    operands = list(made.operation.operands)
    if not len(region.blocks):
        if any(from_mlir(v.type).is_float for v in operands):
            reason = f"the map '{facts['name']}' has a cotangent and no vjp"
            raise IllegalIR(
                place_of(made), op="moe.map", after="in derive-backward", reason=reason
            )
        return
    block = region.blocks[0]
    *_, last = block.operations
    floats = [v for v in operands if from_mlir(v.type).is_float]
    used = [i for i, a in enumerate(block.arguments) if len(list(a.uses))]
    given = [
        primal(operands[i]) if i < len(operands) else cts[i - len(operands)]
        for i in used
    ]
    dtypes = [from_mlir(v.type).dtype for v in last.operation.operands]
    if not given:
        for value in floats:
            yield value, constant(from_mlir(value.type), 0, at)
        return
    clone = mlir.create(
        "moe.map",
        given,
        [v.type for v in floats],
        {"name": to_attribute(facts["name"] + "_vjp"), "results": to_attribute(dtypes)},
        at,
        regions=2,
    )
    target = mlir.add_block(clone.regions[0], [block.arguments[i].type for i in used])
    mapping = iter(target.arguments)
    arguments = [
        next(mapping) if i in used else a for i, a in enumerate(block.arguments)
    ]
    yielded = mlir.copy_region(region, target, arguments)
    with mlir.InsertionPoint(target):
        mlir.create("moe.yield", yielded, [], None, at)
    yield from zip(floats, clone.results, strict=True)


def _dot_general(made: Any, facts: Any, cts: Any, primal: Primal, at: Any) -> Pairs:
    lhs, rhs = made.operation.operands
    (i,), (j,) = mlir.contracting_axes(made)
    left, right = from_mlir(lhs.type), from_mlir(rhs.type)
    free = [n for n in range(len(left.shape)) if n != i]
    others = [n for n in range(len(right.shape)) if n != j]
    count = len(free)
    ct = convert(cts[0], left.dtype, at)
    back = Tensor((*(left.shape[n] for n in free), left.shape[i]), "float32")
    result = range(count, count + len(others))
    d_lhs = dot_general(ct, primal(rhs), (list(result), others), back, at)
    yield lhs, _moved(d_lhs, count, i, at)
    back = Tensor((right.shape[j], *(right.shape[n] for n in others)), "float32")
    ct = convert(cts[0], right.dtype, at)
    d_rhs = dot_general(primal(lhs), ct, (free, list(range(count))), back, at)
    yield rhs, _moved(d_rhs, 0, j, at)


def _moved(value: Value, source: int, target: int, at: Any) -> Value:
    """`value` with its axis `source` moved to `target`."""
    kind = from_mlir(value.type)
    order = [n for n in range(len(kind.shape)) if n != source]
    order.insert(target, source)
    if order == list(range(len(order))):
        return value
    result = Tensor(tuple(kind.shape[n] for n in order), kind.dtype)
    return op(
        "stablehlo.transpose", [value], result, at, permutation=array_attribute(order)
    )


def _reduce(made: Any, facts: Any, cts: Any, primal: Primal, at: Any) -> Pairs:
    source = made.operation.operands[0]
    kind = from_mlir(source.type)
    axes = mlir.int_array(made.operation.attributes["dimensions"])
    kept = [n for n in range(len(kind.shape)) if n not in axes]
    if not kind.is_float:
        return
    spread = broadcast(cts[0], kind, kept, at)
    inner = made.operation.regions[0].blocks[0].operations[0].operation.name
    if inner == "stablehlo.add":
        yield source, spread
    elif inner in ("stablehlo.maximum", "stablehlo.minimum"):
        best = broadcast(primal(made.operation.results[0]), kind, kept, at)
        ties = _equal(primal(source), best, at)
        count = broadcast(reduce("add", ties, axes, at), kind, kept, at)
        share = elementwise("div", "stablehlo.divide", [ties, count], at)
        yield source, elementwise("mul", "stablehlo.multiply", [share, spread], at)


def _equal(a: Value, b: Value, at: Any) -> Value:
    """1.0 where a equals b, else 0.0."""
    direction = mlir.Attribute.parse(
        "#stablehlo<comparison_direction EQ>", mlir.context()
    )
    kind = from_mlir(a.type)
    same = op(
        "stablehlo.compare",
        [a, b],
        kind.with_dtype("bool"),
        at,
        comparison_direction=direction,
    )
    return mapped("convert", "stablehlo.convert", [same], kind.dtype, at)


def _broadcast(made: Any, facts: Any, cts: Any, primal: Primal, at: Any) -> Pairs:
    (source,) = made.operation.operands
    kind, full = from_mlir(source.type), from_mlir(cts[0].type)
    if not kind.is_float:
        return
    dims = mlir.int_array(made.operation.attributes["broadcast_dimensions"])
    if (
        len(kind.shape) == 2
        and kind.shape[1] == 1
        and dims == [0, 1]
        and full.shape[0] == kind.shape[0]
    ):
        yield source, *build("moe.row_sum", [cts[0]], at)
        return
    grown = [
        axis
        for axis in range(len(full.shape))
        if axis not in dims or kind.shape[dims.index(axis)] != full.shape[axis]
    ]
    summed = reduce("add", cts[0], grown, at) if grown else cts[0]
    yield source, op("stablehlo.reshape", [summed], kind.with_dtype(full.dtype), at)


def _reshape(made: Any, facts: Any, cts: Any, primal: Primal, at: Any) -> Pairs:
    (source,) = made.operation.operands
    kind = from_mlir(source.type).with_dtype(from_mlir(cts[0].type).dtype)
    yield source, op("stablehlo.reshape", [cts[0]], kind, at)


def _transpose(made: Any, facts: Any, cts: Any, primal: Primal, at: Any) -> Pairs:
    (source,) = made.operation.operands
    order = mlir.int_array(made.operation.attributes["permutation"])
    inverse = [order.index(n) for n in range(len(order))]
    kind = from_mlir(source.type).with_dtype(from_mlir(cts[0].type).dtype)
    yield (
        source,
        op(
            "stablehlo.transpose",
            [cts[0]],
            kind,
            at,
            permutation=array_attribute(inverse),
        ),
    )


def _slice(made: Any, facts: Any, cts: Any, primal: Primal, at: Any) -> Pairs:
    (source,) = made.operation.operands
    kind = from_mlir(source.type)
    if not kind.is_float:
        return
    kind = kind.with_dtype(from_mlir(cts[0].type).dtype)
    read = made.operation.attributes
    start, stride = (mlir.int_array(read[k]) for k in ("start_indices", "strides"))
    size = from_mlir(cts[0].type).shape
    end = [
        n - s - (m - 1) * t - 1
        for n, s, m, t in zip(kind.shape, start, size, stride, strict=True)
    ]
    zero = constant(Tensor((), kind.dtype), 0, at)
    yield (
        source,
        op(
            "stablehlo.pad",
            [cts[0], zero],
            kind,
            at,
            edge_padding_low=array_attribute(start),
            edge_padding_high=array_attribute(end),
            interior_padding=array_attribute([t - 1 for t in stride]),
        ),
    )


def _concatenate(made: Any, facts: Any, cts: Any, primal: Primal, at: Any) -> Pairs:
    axis, offset = from_attribute(made.operation.attributes["dimension"]), 0
    full = from_mlir(cts[0].type)
    for source in made.operation.operands:
        kind = from_mlir(source.type)
        start = [offset if n == axis else 0 for n in range(len(full.shape))]
        limit = [s + n for s, n in zip(start, kind.shape, strict=True)]
        offset += kind.shape[axis]
        yield (
            source,
            op(
                "stablehlo.slice",
                [cts[0]],
                kind.with_dtype(full.dtype),
                at,
                start_indices=array_attribute(start),
                limit_indices=array_attribute(limit),
                strides=array_attribute([1] * len(start)),
            ),
        )


RULES: dict[str, Rule] = {
    "moe.softmax": _softmax,
    "moe.take": _take,
    "moe.dispatch": _dispatch,
    "moe.dispatch_choices": _dispatch_choices,
    "moe.expert_matmul": _expert_matmul,
    "moe.expert_bias": _expert_bias,
    "moe.combine": _combine,
    "moe.map": _map,
    "stablehlo.dot_general": _dot_general,
    "stablehlo.reduce": _reduce,
    "stablehlo.broadcast_in_dim": _broadcast,
    "stablehlo.reshape": _reshape,
    "stablehlo.transpose": _transpose,
    "stablehlo.slice": _slice,
    "stablehlo.concatenate": _concatenate,
}
