"""First derivatives only: a second one is refused in a sentence."""

from typing import Any

import jax

LAYER = "layer"


def once(gradients: Any) -> Any:
    """The gradients as they are; their own derivative is an error."""

    @jax.custom_jvp
    def once(gradients: Any) -> Any:
        return gradients

    once.defjvp(refuse)
    return once(gradients)


def refuse(primals: Any, tangents: Any) -> Any:
    raise TypeError(
        f"the gradient of the layer '{LAYER}' cannot be "
        "differentiated again: moegen derives first derivatives only"
    )
