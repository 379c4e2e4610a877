"""What is measured: a compiled layer, with parameters and inputs of chosen routing."""

from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from bench.result import Skipped
from bench.setting import Setting
from moegen.compiler import compile
from moegen.layers import find_layer
from moegen.operator import Op, Params

Routing = Literal["random", "uniform", "zipf", "two experts"]


@dataclass(frozen=True)
class Subject:
    """A layer ready to run: `forward(params, x)`, `training(params, x, cotangent)`."""

    op: Op
    params: Params
    x: jax.Array
    cotangent: jax.Array
    load: np.ndarray[Any, np.dtype[np.int64]]

    @property
    def rows(self) -> int:
        """Rows that were really multiplied."""
        return int(self.load.sum())

    @property
    def facts(self) -> dict[str, Any]:
        """The routing as the op's own metric reports it."""
        return {
            "rows": self.rows,
            "most rows on an expert": int(self.load.max()),
            "experts with rows": int((self.load > 0).sum()),
        }


def compiled(layer: str, setting: Setting, dtype: str, **options: Any) -> Op:
    """The layer at the setting's sizes; `options` override them."""
    return compile(find_layer(layer), "host", dtype, **setting.sizes | options)


def forward(op: Op) -> Any:
    """The layer's output, losses and metrics, jitted."""
    return jax.jit(op)


def training(op: Op) -> Any:
    """The forward pass with the gradients of every parameter and of x, jitted."""

    def both(params: Params, x: jax.Array, cotangent: jax.Array) -> Any:
        (y, aux), pull = jax.vjp(op, params, x)
        return y, aux, pull((cotangent.astype(y.dtype), _loss_cotangent(aux)))

    return jax.jit(both)


def _loss_cotangent(aux: Any) -> Any:
    """Ones for the weighted sum of losses, and nothing for what is only reported."""

    def zero(leaf: jax.Array) -> Any:
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            return jnp.zeros_like(leaf)
        return np.zeros(leaf.shape, jax.dtypes.float0)

    return jax.tree.map(zero, aux) | {"loss": jnp.ones_like(aux["loss"])}


def prepare(
    op: Op, routing: Routing = "random", params: Params | None = None
) -> Subject:
    """Parameters and inputs for a routing; the load is read from the op's metrics."""
    params = params or op.init(jax.random.key(0))
    kind = op.inputs["x"].tensor
    normal = np.random.default_rng(1).standard_normal((2, *kind.shape), np.float32)
    values, cotangent = normal
    if routing != "random":
        router = params["router"]
        choice = choices(routing, kind.shape[0], router.shape[1], op.sizes["k"])
        values = steered(values, choice, router.shape[1])
        params = params | {
            "router": jnp.eye(router.shape[0], router.shape[1], dtype=router.dtype)
        }
    x = jnp.asarray(values, kind.dtype)
    _, aux = forward(op)(params, x)
    load = np.asarray(aux["metrics"]["load"], np.int64)
    return Subject(op, params, x, jnp.asarray(cotangent, kind.dtype), load)


def choices(routing: Routing, tokens: int, experts: int, k: int) -> Any:
    """int [tokens, k]: distinct experts of each token, drawn from the routing."""
    rng = np.random.default_rng(2)
    if routing == "two experts":
        if k != 2:
            raise Skipped(f"the routing 'two experts' needs k = 2, not {k}")
        return np.tile([0, experts - 1], (tokens, 1))
    if routing == "uniform":
        # Runs of k in one long cycle of experts: the load is equal to within a row.
        cycle = np.arange(tokens * k).reshape(tokens, k) % experts
        return rng.permutation(experts)[rng.permutation(cycle)]
    share = 1.0 / np.arange(1, experts + 1)
    draw = np.log(share) + rng.gumbel(size=(tokens, experts))
    return np.argsort(-draw, axis=1)[:, :k]


def steered(values: Any, choice: Any, experts: int) -> Any:
    """Inputs whose first columns are their own logits under an identity router."""
    if values.shape[1] < experts:
        raise Skipped(f"steering the routing needs model >= experts ({experts})")
    steered = values.copy()
    steered[:, :experts] = 0.0
    descending = np.arange(choice.shape[1] + 4, 4, -1, dtype=np.float32)
    np.put_along_axis(steered[:, :experts], choice, descending[None], axis=1)
    return steered
