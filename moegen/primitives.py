"""JAX primitives for the ops of the dialect `moe`: `jax.make_jaxpr` records them.

Each takes its shape rule from the op class. Ops on rows are bound without the choice
that the IR op needs: which dispatch the rows came from is found after tracing.
"""

from typing import Any, cast

import jax
import jax.numpy as jnp
from jax.core import ShapedArray
from jax.extend.core import Primitive

from ir import moe  # the ops must be declared before a primitive is made of them
from ir.errors import Where
from ir.op import OPS
from ir.types import Tensor
from moegen.arguments import require_tensors, require_whole
from moegen.places import user_place
from moegen.session import current, dtype_name, ongoing

# Ops whose IR form takes the choice as its last or second operand, found later.
ON_ROWS = {
    moe.ExpertMatmul.OPERATION_NAME: 2,
    moe.ExpertBias.OPERATION_NAME: 1,
    moe.Combine.OPERATION_NAME: 1,
}
PARAM = Primitive("moe.param")


@PARAM.def_abstract_eval
def _param_type(*, shape: tuple[int, ...], dtype: str, **_: Any) -> ShapedArray:
    return ShapedArray(shape, jnp.dtype(dtype))


def _rule(
    name: str, operands: list[Tensor], attributes: dict[str, Any], where: Where | None
) -> Tensor:
    if name == moe.ExpertBias.OPERATION_NAME:
        operands = operands[1:]
    if name in ON_ROWS:
        position = ON_ROWS[name]
        choice = Tensor((_tokens_of(operands), 1), "int32")
        if name == moe.Combine.OPERATION_NAME and len(operands) == 2:
            choice = Tensor(operands[1].shape, "int32")
        operands = [*operands[:position], choice, *operands[position:]]
    (result,) = OPS[name].infer(operands, attributes, where)
    return result


def _tokens_of(operands: list[Tensor]) -> int:
    """Tokens of the dispatch that made these rows, 0 if none did (an error later)."""
    shape, session = operands[0].shape, ongoing()
    return session.tokens.get(shape[0] if shape else 0, 0) if session else 0


def _make(name: str) -> Primitive:
    primitive = Primitive(name)

    @primitive.def_abstract_eval
    def _type(*operands: Any, where: Where | None, **attributes: Any) -> ShapedArray:
        kinds = [Tensor(tuple(x.shape), dtype_name(x.dtype)) for x in operands]
        result = _rule(name, kinds, attributes, where)
        return ShapedArray(result.shape, jnp.dtype(result.dtype))

    return primitive


PRIMITIVES = {name: _make(name) for name in OPS if name.startswith("moe.")}


def apply(name: str, *operands: jax.Array, **attributes: Any) -> jax.Array:
    """Bind an op, after its shape rule has passed with the user's names and line.

    Raises `WrongArgument` for an operand that is no array, or a size that is no int.
    """
    title = OPS[name].title()
    session, where = current(title), user_place()
    require_tensors(title, *operands)
    attributes = {key: _plain(name, key, v) for key, v in attributes.items()}
    _rule(name, [session.describe(x) for x in operands], attributes, where)
    bound = PRIMITIVES[name].bind(*operands, where=where, **attributes)
    return cast(jax.Array, bound)


def _plain(op: str, name: str, value: Any) -> Any:
    """An attribute as the IR holds it: sizes are ints, and nothing else."""
    declared = OPS[op]
    if declared.ATTRIBUTES.get(name) is not int:
        return value
    return require_whole(declared.title(), name, value)
