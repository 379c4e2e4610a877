"""One equation of a layer's jaxpr at a time, into ops of `moe` and stablehlo."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from ir import mlir
from ir.build import broadcast, constant
from ir.errors import (
    CombineWithoutDispatch,
    LayerError,
    MixedDispatches,
    NotElementwise,
    RowsMeetOthers,
    ShapeMismatch,
    UnsupportedFunction,
    Where,
)
from ir.op import OPS, build
from ir.scalar_ops import BY_PRIMITIVE
from ir.types import Tensor, to_attribute, to_mlir
from moegen.elementwise import (
    UNKNOWN,
    Region,
    function_region,
    is_elementwise,
    offender,
    vjp_region,
)
from moegen.jaxprs import called_jaxpr, is_literal, live_equations
from moegen.primitives import ON_ROWS
from moegen.session import dtype_name
from moegen.structural import STRUCTURAL

_DISPATCHES = ("moe.dispatch", "moe.dispatch_choices")


@dataclass(frozen=True)
class Origin:
    """The dispatch that rows came from: its choice, and its line."""

    choice: mlir.Value
    experts: int
    where: Where | None


class Converter:
    """Turns equations into ops at the insertion point, and follows rows' origins."""

    def __init__(
        self, place: Callable[[Any], Where | None], name: Callable[[Where | None], str]
    ) -> None:
        self.place = place
        self.name = name
        self.values: dict[Any, mlir.Value] = {}
        self.origins: dict[Any, Origin] = {}
        self.parameters: Mapping[str, mlir.Value] = {}

    def bind_inputs(
        self, variables: Sequence[Any], values: Sequence[mlir.Value]
    ) -> None:
        self.values.update(zip(variables, values, strict=True))

    def bind_parameters(
        self, names: Sequence[str], values: Sequence[mlir.Value]
    ) -> None:
        self.parameters = dict(zip(names, values, strict=True))

    def read(self, variable: Any) -> mlir.Value:
        if not is_literal(variable):
            return self.values[variable]
        return constant(_type(variable), variable.val, mlir.located("", None))

    def equations(self, jaxpr: Any, consts: Sequence[Any], caller: Any = None) -> None:
        """Convert the live equations; inner jaxprs take their caller's line.

        What a shape rule finds only now is told at the user's line, too.
        """
        for variable, const in zip(jaxpr.constvars, consts, strict=True):
            self.values[variable] = _dense(np.asarray(const))
        for eqn in live_equations(jaxpr):
            where = self.place(eqn) or (self.place(caller) if caller else None)
            try:
                self.equation(eqn, where)
            except LayerError as error:
                if error.where is not None or where is None:
                    raise
                raise type(error)(where, **error.facts) from None

    def equation(self, eqn: Any, where: Where | None) -> None:
        name = eqn.primitive.name
        if name == "moe.param":
            self.values[eqn.outvars[0]] = self.parameters[eqn.params["name"]]
        elif name.startswith("moe."):
            self.own_op(eqn, where)
        elif is_elementwise(eqn):
            self.map(eqn, where)
        elif name in BY_PRIMITIVE and all(map(is_literal, eqn.invars)):
            self.values[eqn.outvars[0]] = _folded(eqn)
        else:
            self.refuse_on_rows(eqn, where)
            self.other(eqn, where)

    def own_op(self, eqn: Any, where: Where | None) -> None:
        name = eqn.primitive.name
        attributes = {k: v for k, v in eqn.params.items() if k != "where"}
        operands = [self.read(v) for v in eqn.invars]
        origin = None
        if name in ON_ROWS:
            origin = self.origin_of(eqn, where)
            if name == "moe.expert_bias":
                operands = operands[1:]
            operands.insert(ON_ROWS[name], origin.choice)
            if name == "moe.combine":
                attributes["experts"] = origin.experts
        location = mlir.located(self.name(where), where)
        (result,) = build(name, operands, location, **attributes)
        self.values[eqn.outvars[0]] = result
        if name in _DISPATCHES:
            origin = Origin(operands[1], attributes["experts"], where)
        if origin and name != "moe.combine":
            self.origins[eqn.outvars[0]] = origin

    def origin_of(self, eqn: Any, where: Where | None) -> Origin:
        """The dispatch of an equation's rows; raises if there is none, or several."""
        title = OPS[eqn.primitive.name].title() if "." in eqn.primitive.name else "it"
        origin = self.origins.get(eqn.invars[0])
        if origin is None:
            got = _type(eqn.invars[0])
            raise CombineWithoutDispatch(where, op=title, got=got)
        weights = _type(eqn.invars[1]) if title.startswith("expert_") else None
        if weights and weights.shape[0] != origin.experts:
            raise ShapeMismatch(
                where,
                op=title,
                expected=f"weights of {origin.experts} experts, for the rows of the "
                f"dispatch at {origin.where}",
                got=weights,
                fix=f"their first axis must be {origin.experts}",
            )
        return origin

    def map(self, eqn: Any, where: Where | None) -> None:
        """An elementwise equation as `moe.map`, with JAX's own vjp beside it."""
        shape = eqn.outvars[0].aval.shape
        operands = [v for v in eqn.invars if not is_literal(v)]
        name = _function_name(eqn)
        location = mlir.located(self.name(where), where)
        kinds = [dtype_name(v.aval.dtype) for v in eqn.outvars]
        made = mlir.create(
            "moe.map",
            [self.spread(v, shape, location) for v in operands],
            [to_mlir(Tensor(shape, kind)) for kind in kinds],
            {"name": to_attribute(name), "results": to_attribute(kinds)},
            location,
            regions=2,
        )
        regions = (function_region(eqn, operands), vjp_region(eqn, operands))
        for region, emitted in zip(made.regions, regions, strict=True):
            if emitted is not None:
                _refuse_unknown(emitted, name, where)
                block = mlir.add_block(region, [to_mlir(t) for t in emitted.inputs])
                emitted.emit(block, location)
        self.values.update(zip(eqn.outvars, made.results, strict=True))
        self.follow(eqn, where)

    def spread(
        self, variable: Any, shape: tuple[int, ...], location: mlir.Location
    ) -> mlir.Value:
        """An operand at the results' shape."""
        value = self.read(variable)
        if variable.aval.shape == shape:
            return value
        result = Tensor(shape, dtype_name(variable.aval.dtype))
        axes = range(len(variable.aval.shape))
        return broadcast(value, result, axes, location)

    def follow(self, eqn: Any, where: Where | None) -> None:
        """Results of rows are rows of the same dispatch; two dispatches do not mix."""
        operands = [v for v in eqn.invars if not is_literal(v)]
        origins = [self.origins[v] for v in operands if v in self.origins]
        if origins and len(origins) < len(operands):
            stranger = next(v for v in operands if v not in self.origins)
            raise RowsMeetOthers(where, name=_function_name(eqn), other=_type(stranger))
        for other in origins[1:]:
            if other.choice != origins[0].choice:
                raise MixedDispatches(
                    where,
                    op=_function_name(eqn),
                    first=origins[0].where,
                    second=other.where,
                )
        for variable in eqn.outvars if origins else ():
            self.origins[variable] = origins[0]

    def refuse_on_rows(self, eqn: Any, where: Where | None) -> None:
        """Rows may be spread over their width, and meet nothing else that mixes."""
        if not any(v in self.origins for v in eqn.invars if not is_literal(v)):
            return
        if eqn.primitive.name == "broadcast_in_dim":
            return
        inner = called_jaxpr(eqn)
        if inner is not None and all(map(_spreads, inner[0].eqns)):
            return
        name, primitive = _function_name(eqn), offender(eqn) or eqn.primitive.name
        if primitive in UNKNOWN:
            raise UnsupportedFunction(where, name=name, primitive=primitive)
        raise NotElementwise(where, name=name, primitive=primitive)

    def other(self, eqn: Any, where: Where | None) -> None:
        """A call is inlined; anything else must be a known structural op."""
        inner = called_jaxpr(eqn)
        if inner is not None:
            self.inline(eqn, *inner)
            return
        rule = STRUCTURAL.get(eqn.primitive.name)
        if rule is None:
            raise UnsupportedFunction(
                where, name=_function_name(eqn), primitive=eqn.primitive.name
            )
        location = mlir.located(self.name(where), where)
        operands = [self.read(v) for v in eqn.invars]
        result = rule(eqn.params, operands, location, eqn.outvars[0].aval)
        self.values[eqn.outvars[0]] = result
        if eqn.primitive.name == "broadcast_in_dim":
            self.follow(eqn, where)

    def inline(self, eqn: Any, jaxpr: Any, consts: Sequence[Any]) -> None:
        for inner, outer in zip(jaxpr.invars, eqn.invars, strict=True):
            self.values[inner] = self.read(outer)
            if not is_literal(outer) and outer in self.origins:
                self.origins[inner] = self.origins[outer]
        self.equations(jaxpr, consts, caller=eqn)
        for outer, inner in zip(eqn.outvars, jaxpr.outvars, strict=True):
            self.values[outer] = self.read(inner)
            if not is_literal(inner) and inner in self.origins:
                self.origins[outer] = self.origins[inner]


def _type(variable: Any) -> Tensor:
    return Tensor(tuple(variable.aval.shape), dtype_name(variable.aval.dtype))


def _refuse_unknown(region: Region, name: str, where: Where | None) -> None:
    """Raise for a custom derivative that is made of something else than scalar ops."""
    for eqn in live_equations(region.jaxpr):
        primitive = offender(eqn)
        if primitive is not None:
            raise UnsupportedFunction(where, name=name, primitive=primitive)


def _spreads(eqn: Any) -> bool:
    return eqn.primitive.name == "broadcast_in_dim" or offender(eqn) is None


def _function_name(eqn: Any) -> str:
    """What the user called: the function's own name where JAX kept it."""
    inner = called_jaxpr(eqn)
    if inner is None:
        return str(eqn.primitive.name)
    name = str(eqn.params.get("name", "")).strip("<>").lstrip("_")
    if not name and len(inner[0].eqns) == 1:
        return _function_name(inner[0].eqns[0])
    return name or str(eqn.primitive.name)


def _folded(eqn: Any) -> mlir.Value:
    """A function of literals alone, as a constant."""
    kind = _type(eqn.outvars[0])
    known = [np.asarray(v.val) for v in eqn.invars]
    if jnp.issubdtype(eqn.invars[0].aval.dtype, jnp.floating):
        known = [array.astype(np.float64) for array in known]
    value = BY_PRIMITIVE[eqn.primitive.name].numpy(*known)
    return constant(kind, value, mlir.located("", None))


def _dense(array: np.ndarray) -> mlir.Value:
    """An array constant of the layer."""
    kind = Tensor(array.shape, dtype_name(array.dtype))
    if array.size == 1 and not array.shape:
        return constant(kind, array, mlir.located("", None))
    attribute = mlir.dense(array, to_mlir(kind))
    made = mlir.create(
        "stablehlo.constant",
        [],
        [to_mlir(kind)],
        {"value": attribute},
        mlir.located("", None),
    )
    return made.results[0]
