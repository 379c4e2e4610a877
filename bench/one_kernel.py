"""One kernel of a layer as a program of its own, to be compiled ahead of time.

The emitted module stays as it is. A function is added that makes one kernel's call,
with that kernel's operands as arguments: so its compilation says nothing of others.
"""

import ast
from collections.abc import Iterator, Sequence

from backends.emitted import Emitted
from backends.tpu.compile import Argument
from backends.tpu.kernel_buffers import places_of
from backends.tpu.kernel_ops import KernelOp
from backends.tpu.operands import rows_operands, sums_operands
from backends.tpu.router_text import routed_text
from backends.tpu.storage import block_of, can_pack, stored_dtype
from ir.mlir import Value
from ir.op import attributes_of, operand_types
from ir.types import Tensor, from_mlir

NAME = "kernel_alone"


def program(emitted: Emitted, kernel: KernelOp) -> tuple[Emitted, tuple[Argument, ...]]:
    """The emitted module with `kernel_alone` behind it, and that function's arguments.

    The kernel's op must carry the schedule that the module was emitted for.
    """
    call = _call(emitted.text, kernel)
    if kernel.kind == "router":
        return _router(emitted, call, kernel)
    plan = _plan(kernel)
    groups = _groups(kernel)
    names = [f"a{n}" for n in range(sum(map(len, groups)))]
    texts, rest = [], iter(names)
    for group in groups:
        texts.append("(" + "".join(f"{next(rest)}, " for _ in group) + ")")
    parameters = ", ".join([*plan, *names])
    fields = ", ".join(f"{name}={name}" for name in plan)
    lines = [
        f"def {NAME}({parameters}):",
        f"    plan = RowPlan({fields})",
        f"    return {_text(call, kernel, texts)}",
    ]
    arguments = (*plan.values(), *(a for group in groups for a in group))
    return _behind(emitted, ["from .row_plan import RowPlan"], lines), arguments


def _router(
    emitted: Emitted, call: ast.Call, kernel: KernelOp
) -> tuple[Emitted, tuple[Argument, ...]]:
    """As `program`: a router has no row plan."""
    arguments = [Argument(t.dtype, t.shape) for t in operand_types(kernel.op)]
    names = [f"a{n}" for n in range(len(arguments))]
    given, _, made = map(ast.unparse, call.args)
    read = routed_text(kernel.op, names)
    lines = [
        f"def {NAME}({', '.join(names)}):",
        f"    return route({', '.join([given, read, made, *_named(call)])})",
    ]
    return _behind(emitted, [], lines), tuple(arguments)


def _behind(emitted: Emitted, imported: list[str], lines: list[str]) -> Emitted:
    """The module with a function behind it, and what that needs of the kernels."""
    return emitted.followed_by("\n".join(("", *imported, "", "", *lines, "")))


def _named(call: ast.Call) -> list[str]:
    """The arguments that a call gives by name."""
    return [f"{each.arg}={ast.unparse(each.value)}" for each in call.keywords]


def _call(source: str, kernel: KernelOp) -> ast.Call:
    """The kernel's call in the emitted module."""
    function, kind, number = kernel.name.split(".")
    kind = {"router": "route"}.get(kind, kind)
    tree = ast.parse(source)
    body = next(
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name == function
    )
    calls = [
        node
        for node in ast.walk(body)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == kind
    ]
    calls.sort(key=lambda node: node.lineno)
    return calls[int(number)]


def _text(call: ast.Call, kernel: KernelOp, groups: Sequence[str]) -> str:
    """The call, with the operands that it reads replaced."""
    if kernel.kind == "combine_rows":
        rows, gates = (group.strip("(), ") for group in groups)
        dtype = ast.unparse(call.args[2])
        given = [rows, "plan", dtype, *([gates] if gates else [])]
        return f"combine_rows({', '.join(given)})"
    kind = "Fetched" if kernel.kind == "grouped_rows" else "Summed"
    held = f"{kind}({', '.join(groups)})"
    return f"{kernel.kind}({', '.join(['plan', held, *_named(call)])})"


def _plan(kernel: KernelOp) -> dict[str, Argument]:
    """The arrays of the row plan."""
    told = attributes_of(kernel.op)
    tokens, choices = operand_types(kernel.op)[0].shape
    maker = kernel.op
    if kernel.kind == "combine_rows":
        maker = kernel.op.operation.operands[1].owner.opview
        told = attributes_of(maker)
    schedule = told["schedule"]
    places, experts = places_of(maker, schedule), told["experts"]
    tiles = places // schedule["tile_rows"]
    every = tiles + experts
    fillers = min(experts, told["rows"]) * schedule["tile_rows"]
    entries = tokens * choices + fillers
    shapes = {
        "flat": (places,),
        "sorted_row": (tokens, choices),
        "kept": (tokens, choices),
        "sizes": (experts,),
        "tiles": (1,),
        "tile_expert": (tiles,),
        "filled": (tiles,),
        "all_tiles": (1,),
        "all_expert": (every,),
        "all_tile": (every,),
        "all_rows": (every,),
        "entry": (entries,),
        "place": (entries,),
    }
    return {
        name: Argument("bool" if name == "kept" else "int32", shape)
        for name, shape in shapes.items()
    }


def _groups(kernel: KernelOp) -> list[list[Argument]]:
    """The arrays of each group of a kernel's operands."""
    if kernel.kind == "combine_rows":
        return _combined(kernel)
    assert kernel.piece
    fetches = kernel.schedule["fetches"]
    if kernel.kind == "grouped_sums":
        sums = sums_operands(kernel.piece, fetches)
        return [
            list(_words(kernel, sums.left_tokens)),
            list(_spaces(kernel, sums.left)),
            list(_words(kernel, sums.right_tokens)),
            list(_spaces(kernel, sums.right)),
            list(_spaces(kernel, sums.numbers)),
        ]
    rows = rows_operands(kernel.piece, fetches)
    return [
        list(_words(kernel, rows.tokens)),
        list(_spaces(kernel, rows.inner)),
        list(_spaces(kernel, rows.columns)),
        list(_spaces(kernel, rows.numbers)),
        list(_weights(kernel, kernel.piece.rights)),
        list(_weights(kernel, rows.biases)),
    ]


def _combined(kernel: KernelOp) -> list[list[Argument]]:
    value = kernel.op.operation.operands[1]
    maker = value.owner.opview
    places = places_of(maker, attributes_of(maker)["schedule"])
    _, rows, *gates = operand_types(kernel.op)
    dtype, columns = stored_dtype(rows, kernel.compute), rows.shape[1]
    if can_pack(value, kernel.compute, block_of(value)):
        dtype, columns = "uint32", columns // 2
    return [
        [Argument(dtype, (places, columns))],
        [Argument(gate.dtype, gate.shape) for gate in gates],
    ]


def _words(kernel: KernelOp, values: Sequence[Value]) -> Iterator[Argument]:
    """Tokens as words."""
    for value in values:
        kind = _outer(kernel, value)
        tokens, columns = kind.shape
        if kind.dtype == "bfloat16":
            yield Argument("uint32", (tokens, columns // 2))
        else:
            yield Argument(kind.dtype, (tokens, columns))


def _spaces(kernel: KernelOp, values: Sequence[Value]) -> Iterator[Argument]:
    """Row spaces."""
    assert kernel.piece
    places = places_of(kernel.op, kernel.schedule)
    for value in values:
        kind = from_mlir(value.type)
        stored = kernel.piece.arguments[value][0] == "row"
        dtype = stored_dtype(kind, kernel.compute) if stored else kind.dtype
        yield Argument(dtype, (places, kind.shape[-1]))


def _weights(kernel: KernelOp, values: Sequence[Value]) -> Iterator[Argument]:
    for value in values:
        kind = _outer(kernel, value)
        yield Argument(kind.dtype, kind.shape)


def _outer(kernel: KernelOp, value: Value) -> Tensor:
    assert kernel.piece
    return from_mlir(kernel.piece.arguments[value][1].type)
