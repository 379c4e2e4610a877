"""Trace: from the user's function to a module of the dialect `moe`.

JAX records the function as a jaxpr, in which our primitives stand beside JAX's own;
every equation becomes one op, at the user's line and under the user's variable name.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ir import mlir
from ir.errors import (
    BadArgument,
    LayerError,
    LayerRaised,
    MoegenError,
    NotALayer,
    UnequalHalves,
    UnsupportedFunction,
    UnusedResult,
    ValueUnknown,
    Where,
    nearest,
)
from ir.types import Tensor, to_attribute, to_mlir
from moegen.equations import Converter
from moegen.jaxprs import live_equations
from moegen.places import assigned_name, place_of_error, place_of_frames
from moegen.session import Session, dtype_name, tracing
from moegen.signature import Layer, Signature, read_signature, without_jit

FLOATS = ("float32", "bfloat16", "float16")
# What asks for the values of traced tensors, and what to write instead.
_FIXES: Mapping[type[Exception], str] = {
    jax.errors.TracerArrayConversionError: "call jax.numpy instead of numpy",
    jax.errors.TracerBoolConversionError: (
        "use jnp.where instead of if, and jnp.minimum or jnp.maximum instead of min "
        "or max; sizes and options alone may decide what is computed"
    ),
    jax.errors.TracerIntegerConversionError: (
        "use take, drop or jnp.where instead of an index; loops run over sizes alone"
    ),
    jax.errors.ConcretizationTypeError: (
        "leave it a tensor, as jax.numpy does, instead of float(...) or int(...)"
    ),
}
_HALVES = re.compile(r"\((\d+), ?(\d+)\)[^(]*\((\d+), ?(\d+)\)")


def trace(layer: Layer, dtype: str = "float32", **sizes: Any) -> mlir.Module:
    """The layer as a module: one function `forward`, inputs first, then parameters.

    Results are the output in `dtype`, the weighted sum of losses, each loss and each
    metric. Raises a `LayerError` at the user's line.
    """
    layer = without_jit(layer)
    signature = read_signature(layer, sizes)
    session = Session(signature.layer, signature.sizes, _activations(dtype))
    inputs = session.inputs = _inputs(signature, session)
    with tracing(session):
        closed, names = _record(layer, signature, session, inputs)
    module = _module(closed, signature, session, inputs, names)
    _refuse_unused(closed.jaxpr)
    return module


def _activations(dtype: Any) -> str:
    """The name of a dtype of floating point; raises `BadArgument` for any other."""
    try:
        name = "None" if dtype is None else dtype_name(dtype)
    except TypeError:
        name = str(dtype)
    if name not in FLOATS:
        close = nearest(name, list(FLOATS))
        reason = f"there is no layer of dtype '{name}'; pass {', '.join(FLOATS)}{close}"
        raise BadArgument(reason=reason)
    return name


def _inputs(signature: Signature, session: Session) -> dict[str, Tensor]:
    made = {}
    for name, declared in signature.inputs.items():
        shape = session.shape(declared.axes, f"the input '{name}'", signature.where)
        made[name] = Tensor(shape, declared.dtype or session.dtype, name)
    return made


def _record(
    layer: Layer, signature: Signature, session: Session, inputs: Mapping[str, Tensor]
) -> tuple[Any, list[str]]:
    """The jaxpr of the layer with losses and metrics as results, and results' names."""
    names: list[str] = []

    def run(*arrays: jax.Array) -> list[jax.Array]:
        session.begin()
        for name, array in zip(inputs, arrays, strict=True):
            axes = zip(signature.inputs[name].axes, array.shape, strict=True)
            sizes = ", ".join(f"{axis}={size}" for axis, size in axes)
            session.label(array, f"{name} ({sizes})")
        output = layer(*arrays, **signature.sizes)
        if not isinstance(output, jax.Array):
            what = (
                f"the layer '{signature.layer}' must return one tensor, and returned "
            )
            raise NotALayer(signature.where, what=f"{what}{type(output).__name__}")
        results = {"output": output.astype(session.dtype)}
        results["loss"] = sum(
            (weight * value for value, weight in session.losses.values()),
            start=jnp.zeros((), jnp.float32),
        )
        results |= {f"losses.{n}": value for n, (value, _) in session.losses.items()}
        results |= {f"metrics.{n}": value for n, value in session.metrics.items()}
        names.extend(results)
        return list(results.values())

    structs = [
        jax.ShapeDtypeStruct(t.shape, jnp.dtype(t.dtype)) for t in inputs.values()
    ]
    try:
        return jax.make_jaxpr(run)(*structs), names
    except MoegenError:
        raise
    except Exception as error:
        raise _explain(error, session) from error


def _explain(error: Exception, session: Session) -> LayerError:
    where = place_of_error(error.__traceback__)
    text = str(error).strip().split("\n")[0]
    kind = type(error).__name__
    for asked, fix in _FIXES.items():
        if isinstance(error, asked):
            return ValueUnknown(where, layer=session.layer, kind=kind, fix=fix)
    halves = _HALVES.search(text)
    if isinstance(error, TypeError | ValueError) and halves and "shape" in text:
        rows, first, others, second = map(int, halves.groups())
        if rows == others and first != second and rows in session.tokens:
            return UnequalHalves(
                where, first=f"[{rows},{first}]", second=f"[{others},{second}]"
            )
    reason = text if len(text) < 300 else text[:297] + "..."
    if isinstance(error, KeyError):
        options = [f"{n}={v}" for n, v in session.sizes.items() if (v,) == error.args]
        reason += f"; the layer was given {options[0]}" if options else ""
    if isinstance(error, AttributeError) and error.name:
        reason += nearest(error.name, dir(error.obj))
    return LayerRaised(where, layer=session.layer, kind=kind, reason=reason)


def place_of(eqn: Any) -> Where | None:
    """The user's line of an equation."""
    where = eqn.params.get("where")
    if isinstance(where, Where):
        return where
    traceback = eqn.source_info.traceback
    return place_of_frames(traceback.frames) if traceback else None


def _refuse_unused(jaxpr: Any) -> None:
    """Raise for a product or an op of ours whose result nobody uses, and for prints.

    What is done for an effect, such as jax.debug.print, has no place in an op.
    """
    live = {id(eqn) for eqn in live_equations(jaxpr)}
    for eqn in jaxpr.eqns:
        name = eqn.primitive.name
        if eqn.effects:
            raise UnsupportedFunction(place_of(eqn), name="the layer", primitive=name)
        if id(eqn) in live or not (name.startswith("moe.") or name == "dot_general"):
            continue
        what = {
            "moe.param": f"param '{eqn.params.get('name')}'",
            "dot_general": "matmul",
        }
        title = what.get(name, name.removeprefix("moe."))
        raise UnusedResult(place_of(eqn), op=title)


def _module(
    closed: Any,
    signature: Signature,
    session: Session,
    inputs: Mapping[str, Tensor],
    names: Sequence[str],
) -> mlir.Module:
    parameters = list(session.parameters.values())
    kinds = [*inputs.values(), *(p.tensor for p in parameters)]
    results = [
        Tensor(v.aval.shape, dtype_name(v.aval.dtype)) for v in closed.jaxpr.outvars
    ]
    module = mlir.empty_module(signature.layer)
    module.operation.attributes["moe.sizes"] = to_attribute(
        {size: v for size, v in signature.sizes.items() if v is not None}
    )
    block = mlir.add_function(
        module,
        "forward",
        [to_mlir(kind) for kind in kinds],
        [to_mlir(kind) for kind in results],
        [mlir.located(name, signature.where) for name in inputs]
        + [mlir.located(p.name, p.where) for p in parameters],
        [to_attribute(a) for a in _argument_facts(signature, session)],
        [to_attribute({"moe.result": name}) for name in names],
    )
    arguments = list(block.arguments)
    with mlir.InsertionPoint(block):
        converter = Converter(place_of, assigned_name)
        converter.bind_inputs(closed.jaxpr.invars, arguments[: len(inputs)])
        converter.bind_parameters(
            [p.name for p in parameters], arguments[len(inputs) :]
        )
        converter.equations(closed.jaxpr, closed.consts)
        values = [converter.read(v) for v in closed.jaxpr.outvars]
        mlir.create("func.return", values, [], None, mlir.located("", signature.where))
    return module


def _argument_facts(signature: Signature, session: Session) -> list[dict[str, Any]]:
    facts: list[dict[str, Any]] = []
    for name, declared in signature.inputs.items():
        fact = {"moe.input": name, "moe.axes": list(declared.axes)}
        if declared.default:
            fact["moe.default"] = declared.default
        facts.append(fact)
    for p in session.parameters.values():
        init = dict(p.init)
        facts.append({"moe.param": p.name, "moe.axes": list(p.axes), "moe.init": init})
    return facts
