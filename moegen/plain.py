"""An emitted module as functions of plain arrays, to be compiled as a whole."""

from backends.emitted import Emitted
from moegen.operator import Op

FORWARD, TRAINING = "whole_forward", "whole_training"

_WHOLE = """

def whole_forward({arguments}):
    return forward({params}, {inputs})


def whole_training({arguments}):
    def loss(params, x):
        y, aux = layer(params, {inputs_of_loss})
        return jnp.sum(y.astype(jnp.float32)) + aux["loss"]

    return jax.value_and_grad(loss, argnums=(0, 1))({params}, {first})
"""


def whole(op: Op) -> Emitted:
    """The emitted module with `whole_forward` and `whole_training` behind it.

    Both take the layer's inputs, then its parameters (`arrays`).
    """
    pairs = ", ".join(f'"{name}": {name}' for name in op.parameters)
    text = _WHOLE.format(
        arguments=", ".join((*op.inputs, *op.parameters)),
        params=f"{{{pairs}}}",
        inputs=", ".join(op.inputs),
        inputs_of_loss=", ".join(("x", *list(op.inputs)[1:])),
        first=next(iter(op.inputs)),
    )
    return op.emitted.followed_by(text)


def arrays(op: Op) -> list[tuple[str, tuple[int, ...]]]:
    """The dtype and shape of each argument of those functions."""
    held = [f.tensor for f in op.inputs.values()] + [*op.parameters.values()]
    return [(t.dtype, tuple(t.shape)) for t in held]
