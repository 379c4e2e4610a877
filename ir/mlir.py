"""The one door to MLIR: jaxlib's bindings, our dialects, text in and out.

Nothing else in the project imports `jaxlib.mlir`. One context lives as long as the
process, because MLIR values must not outlive the context that they belong to.
"""

import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, TypeVar, cast

from jaxlib.mlir import ir
from jaxlib.mlir._mlir_libs import _jax_mlir_ext, _mlir
from jaxlib.mlir.dialects import chlo, stablehlo
from jaxlib.mlir.ir import (
    Attribute as Attribute,
)
from jaxlib.mlir.ir import (
    Block as Block,
)
from jaxlib.mlir.ir import (
    InsertionPoint as InsertionPoint,
)
from jaxlib.mlir.ir import (
    Location as Location,
)
from jaxlib.mlir.ir import (
    MLIRError as MLIRError,
)
from jaxlib.mlir.ir import (
    Module as Module,
)
from jaxlib.mlir.ir import (
    Operation as Operation,
)
from jaxlib.mlir.ir import (
    OpView as OpView,
)
from jaxlib.mlir.ir import (
    Region as Region,
)
from jaxlib.mlir.ir import (
    Type as Type,
)
from jaxlib.mlir.ir import (
    Value as Value,
)
from jaxlib.mlir.passmanager import PassManager

from ir.errors import UnreadableIR, Where

_FILE_LINE = re.compile(r'"([^"]*)":(\d+):\d+')
_ESCAPED = re.compile(rb"\\(\\|[0-9A-F]{2})")
_NAME = re.compile(r'loc\("([^"]*)"[()]')

_Class = TypeVar("_Class", bound=type)


@_mlir.register_dialect
class _Moe(ir.Dialect):
    DIALECT_NAMESPACE = "moe"


@_mlir.register_dialect
class _Kernel(ir.Dialect):
    DIALECT_NAMESPACE = "kernel"


# Where the bindings look for a dialect's op classes: ir.moe, ir.kernel. Without it they
# search for a module of their own, in vain, for every single op.
_mlir.globals.append_dialect_search_prefix("ir")

_DIALECTS: dict[str, type] = {"moe": _Moe, "kernel": _Kernel}


def operation(cls: _Class) -> _Class:
    """Register an op class, so that walking a module yields it by its name."""
    dialect = _DIALECTS[cls.OPERATION_NAME.split(".")[0]]  # type: ignore[attr-defined]
    registered: Any = _mlir.register_operation(dialect)(cls)
    return cast(_Class, registered)


@cache
def context() -> ir.Context:
    """The process' MLIR context, with the builtin dialects that we use and our own."""
    registry = ir.DialectRegistry()
    _jax_mlir_ext.register_dialects(registry)
    made = ir.Context()
    made.append_dialect_registry(registry)
    made.load_all_available_dialects()
    stablehlo.register_dialect(made)
    chlo.register_dialect(made)
    made.allow_unregistered_dialects = True
    return made


def parse(text: str) -> ir.Module:
    """Parse a printed module; raises `UnreadableIR` with MLIR's own line and reason."""
    with context():
        try:
            return ir.Module.parse(text)
        except ir.MLIRError as error:
            details = [str(d.message) for d in error.error_diagnostics]
            place = [str(d.location) for d in error.error_diagnostics]
            raise UnreadableIR(
                place=place[0] if place else "the module",
                reason=" ".join(details) or str(error),
            ) from None


def print_module(module: ir.Module, locations: bool = True) -> str:
    """The module as text that parses back; with `locations`, the user's lines too."""
    text: str = module.operation.get_asm(enable_debug_info=locations)
    return text.rstrip() + "\n"


def run_builtin(module: ir.Module, *names: str) -> None:
    """Run MLIR's own passes (such as `cse`) over a module, in place."""
    with context():
        pipeline = PassManager.parse(f"builtin.module({','.join(names)})")
        pipeline.run(module.operation)


def walk(block: ir.Block) -> Iterator[ir.OpView]:
    """The ops of a block and of the regions inside it, outermost first."""
    for op in block.operations:
        yield op
        for region in op.operation.regions:
            for inner in region.blocks:
                yield from walk(inner)


def functions(module: ir.Module) -> dict[str, ir.OpView]:
    """The module's functions by name, in order."""
    return {
        ir.StringAttr(op.attributes["sym_name"]).value: op
        for op in module.body.operations
        if op.operation.name == "func.func"
    }


def entry(function: ir.OpView) -> ir.Block:
    """The one block of a function."""
    return function.operation.regions[0].blocks[0]


def create(
    name: str,
    operands: Sequence[ir.Value],
    results: Sequence[ir.Type],
    attributes: dict[str, ir.Attribute] | None = None,
    location: ir.Location | None = None,
    regions: int = 0,
) -> ir.Operation:
    """Create an op at the current insertion point."""
    return ir.Operation.create(
        name,
        results=list(results),
        operands=list(operands),
        attributes=attributes or {},
        loc=location or ir.Location.unknown(context()),
        regions=regions,
    )


def attribute_value(attribute: ir.Attribute) -> Any:
    """The Python value of a bool, number, string, array or dictionary attribute."""
    match attribute:
        case ir.BoolAttr() | ir.IntegerAttr() | ir.FloatAttr() | ir.StringAttr():
            return attribute.value
        case ir.ArrayAttr():
            return [attribute_value(item) for item in attribute]
        case ir.DictAttr():
            return {item.name: attribute_value(item.attr) for item in attribute}
        case ir.DenseElementsAttr() if attribute.is_splat:
            return attribute_value(attribute.get_splat_value())
    return str(attribute)


def located(name: str, where: Where | None) -> ir.Location:
    """The location of a value that the user calls `name`, at the user's line."""
    if where is None:
        place = ir.Location.unknown(context())
    else:
        place = ir.Location.file(where.file, where.line, 1, context())
    return ir.Location.name(name, place, context()) if name else place


def file_and_line(location: ir.Location) -> Where | None:
    """The file and line of a location, if it has one."""
    found = _FILE_LINE.search(str(location))
    return Where(_unescaped(found[1]), int(found[2])) if found else None


def name_of(location: ir.Location) -> str:
    """The user's name for a value, if its location has one."""
    found = _NAME.match(str(location))
    return _unescaped(found[1]) if found else ""


def _unescaped(text: str) -> str:
    """Printed text as it was: MLIR writes bytes beyond ASCII in hexadecimal."""

    def plain(found: re.Match[bytes]) -> bytes:
        code = found[1]
        return code if code == b"\\" else bytes.fromhex(code.decode())

    return _ESCAPED.sub(plain, text.encode()).decode()


def empty_module(name: str) -> ir.Module:
    """A module without functions."""
    with context(), ir.Location.unknown():
        module = ir.Module.create()
        module.operation.attributes["sym_name"] = ir.StringAttr.get(name)
    return module


def add_function(
    module: ir.Module,
    name: str,
    arguments: Sequence[ir.Type],
    results: Sequence[ir.Type],
    locations: Sequence[ir.Location],
    argument_facts: Sequence[ir.Attribute],
    result_facts: Sequence[ir.Attribute],
) -> ir.Block:
    """Append a public function and return its empty entry block."""
    with context(), ir.Location.unknown(), ir.InsertionPoint(module.body):
        kind = ir.FunctionType.get(list(arguments), list(results))
        function = create(
            "func.func",
            [],
            [],
            {
                "sym_name": ir.StringAttr.get(name),
                "function_type": ir.TypeAttr.get(kind),
                "arg_attrs": ir.ArrayAttr.get(list(argument_facts)),
                "res_attrs": ir.ArrayAttr.get(list(result_facts)),
            },
            regions=1,
        )
        return function.regions[0].blocks.append(*arguments, arg_locs=list(locations))


def add_block(region: ir.Region, arguments: Sequence[ir.Type]) -> ir.Block:
    """Append a block with unnamed arguments to a region."""
    locations = [ir.Location.unknown(context())] * len(arguments)
    return region.blocks.append(*arguments, arg_locs=locations)


def dense(array: Any, kind: ir.Type) -> ir.Attribute:
    """The elements of a NumPy array as an attribute of type `kind`."""
    items = ", ".join(repr(item) for item in array.ravel().tolist()).lower()
    shaped = items if array.ndim == 1 else ""
    if array.ndim != 1:
        shaped = repr(array.tolist()).removeprefix("[").removesuffix("]").lower()
    return ir.Attribute.parse(f"dense<[{shaped}]> : {kind}", context())


def argument_facts(function: ir.OpView) -> list[ir.Attribute]:
    """The attribute dictionaries of a function's arguments."""
    return list(function.operation.attributes["arg_attrs"])


def result_facts(function: ir.OpView) -> list[ir.Attribute]:
    """The attribute dictionaries of a function's results."""
    return list(function.operation.attributes["res_attrs"])


def finish_function(
    block: ir.Block,
    argument_facts: Sequence[ir.Attribute],
    result_facts: Sequence[ir.Attribute],
) -> None:
    """Set a function's type from its block's arguments and what it returns."""
    *_, last = block.operations
    function = block.owner
    with context():
        kind = ir.FunctionType.get(
            [a.type for a in block.arguments], [v.type for v in last.operation.operands]
        )
        function.operation.attributes["function_type"] = ir.TypeAttr.get(kind)
        function.operation.attributes["arg_attrs"] = ir.ArrayAttr.get(
            list(argument_facts)
        )
        function.operation.attributes["res_attrs"] = ir.ArrayAttr.get(
            list(result_facts)
        )


def clone(op: ir.Operation, operands: Sequence[ir.Value]) -> ir.Operation:
    """A copy of an op, with its regions, at the insertion point, on other operands."""
    made = op.operation.clone()
    for position, value in enumerate(operands):
        made.operation.operands[position] = value
    return made.operation


def copy_region(
    source: ir.Region, target: ir.Block, arguments: Sequence[ir.Value]
) -> list[ir.Value]:
    """Clone a one-block region's ops to the end of `target`; returns what it yields."""
    block = source.blocks[0]
    copied = dict(zip(block.arguments, arguments, strict=True))
    *body, last = list(block.operations)
    with ir.InsertionPoint(target):
        for op in body:
            made = clone(op.operation, [copied[v] for v in op.operation.operands])
            copied.update(zip(op.operation.results, made.results, strict=True))
    return [copied[v] for v in last.operation.operands]


def move_before(op: ir.OpView, other: ir.OpView) -> None:
    """Move an op in front of another of the same block."""
    op.operation.move_before(other.operation)


def int_array(attribute: ir.Attribute) -> list[int]:
    """A dense array attribute of integers as a list."""
    return [int(item) for item in attribute]


def contracting_axes(dot: ir.OpView) -> tuple[list[int], list[int]]:
    """The contracted axes of a stablehlo.dot_general, left and right."""
    numbers = stablehlo.DotDimensionNumbers(
        dot.operation.attributes["dot_dimension_numbers"]
    )
    return (
        list(numbers.lhs_contracting_dimensions),
        list(numbers.rhs_contracting_dimensions),
    )


def producer(value: ir.Value) -> ir.Operation | None:
    """The op that made a value; None for a block argument."""
    owner = value.owner
    return None if isinstance(owner, ir.Block) else owner.operation


def region_text(region: ir.Region) -> str:
    """A text that is equal for regions which differ only in the names of values."""
    numbers: dict[ir.Value, int] = {}
    lines = []
    for block in region.blocks:
        for value in block.arguments:
            numbers[value] = len(numbers)
        for op in block.operations:
            operands = [numbers[v] for v in op.operation.operands]
            for value in op.operation.results:
                numbers[value] = len(numbers)
            facts = sorted((n, str(a)) for n, a in attributes(op).items())
            kinds = [str(v.type) for v in op.operation.results]
            inner = [region_text(r) for r in op.operation.regions]
            lines.append(f"{op.operation.name} {operands} {facts} {kinds} {inner}")
    return "\n".join(lines)


def user(use: ir.OpOperand) -> ir.OpView:
    """The op behind one use of a value."""
    return use.owner.operation.opview


def replace(old: ir.OpView, new: ir.OpView) -> None:
    """Put an op of the same block in another's place, and erase that one."""
    new.operation.move_before(old.operation)
    old.operation.erase()


def attributes(op: ir.OpView | ir.Operation) -> dict[str, ir.Attribute]:
    """An op's attributes by name."""
    found = op.operation.attributes
    named = (found[position] for position in range(len(found)))
    return {item.name: item.attr for item in named}


def string(op: ir.OpView, name: str) -> str:
    """A string attribute of an op."""
    value: str = ir.StringAttr(op.operation.attributes[name]).value
    return value


def dense_items(constant: ir.OpView) -> list[Any]:
    """The elements of a stablehlo.constant, flat."""
    elements = constant.operation.attributes["value"]
    return [item for item in elements]
