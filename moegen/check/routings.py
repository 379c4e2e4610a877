"""The adversarial routings: which experts each token should want, at which sizes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Sizes = Mapping[str, Any]

BASE: Sizes = {"tokens": 48, "model": 32, "hidden": 48, "experts": 8, "k": 2}
SMALL = 16  # Tokens where the routing does not matter: compilation is what costs.


@dataclass(frozen=True)
class Routing:
    """One routing: sizes other than the usual, and how the inputs are steered.

    `wants(random, tokens, experts, k)` gives each token its experts in falling order.
    `valid` is the share of tokens that are not padding; `needs` the sizes that it sets
    and without which it means nothing.
    """

    name: str
    wants: Callable[[np.random.Generator, int, int, int], Ints]
    sizes: Sizes
    valid: float = 1.0
    nan: bool = False
    needs: str = ""


def balanced(random: np.random.Generator, tokens: int, experts: int, k: int) -> Ints:
    """Every expert equally often, in a random order of tokens."""
    wanted = (np.arange(tokens * k).reshape(tokens, k)) % experts
    return wanted[random.permutation(tokens)]


def _drawn(random: np.random.Generator, tokens: int, weights: Any, k: int) -> Ints:
    """k distinct experts a token, each in proportion to its weight."""
    noise = random.gumbel(size=(tokens, len(weights)))
    return np.argsort(-(np.log(weights) + noise), axis=1)[:, :k]


def zipf(random: np.random.Generator, tokens: int, experts: int, k: int) -> Ints:
    """The n-th expert in proportion to 1 / n."""
    return _drawn(random, tokens, 1.0 / np.arange(1, experts + 1), k)


def one_expert(random: np.random.Generator, tokens: int, experts: int, k: int) -> Ints:
    """Every first choice the same; the others spread."""
    weights = np.full(experts, 1.0)
    weights[experts // 2] = 1e30
    return _drawn(random, tokens, weights, k)


def two_experts(random: np.random.Generator, tokens: int, experts: int, k: int) -> Ints:
    """Two experts take all that they can."""
    weights = np.full(experts, 1.0)
    weights[[0, -1]] = 1e30
    return _drawn(random, tokens, weights, k)


def empty_experts(
    random: np.random.Generator, tokens: int, experts: int, k: int
) -> Ints:
    """Experts of odd number get no token while the others suffice for k."""
    weights = np.where(np.arange(experts) % 2, 1e-30, 1.0)
    return _drawn(random, tokens, weights, k)


def _made() -> list[Routing]:
    small = {"tokens": SMALL}
    return [
        Routing("balanced", balanced, {}),
        Routing("zipf", zipf, {}),
        Routing("one expert", one_expert, {}),
        Routing("two experts", two_experts, {}),
        Routing("empty experts", empty_experts, {}),
        Routing("all dropped", balanced, {}, valid=0.0),
        Routing("ids -1", zipf, {}, valid=0.6),
        Routing("NaN token", balanced, {}, nan=True),
        Routing("k = 1", zipf, {**small, "k": 1}, needs="k"),
        Routing("k = E", balanced, {"tokens": 8, "k": "experts"}, needs="k"),
        Routing("E = 1", balanced, {**small, "experts": 1}, needs="experts"),
        Routing("E = 255", zipf, {**small, "experts": 255}, needs="experts"),
        Routing("E = 256", zipf, {**small, "experts": 256}, needs="experts"),
        Routing("E = 257", zipf, {**small, "experts": 257}, needs="experts"),
        Routing("odd T", zipf, {"tokens": SMALL + 1}, needs="tokens"),
    ]


ROUTINGS: Mapping[str, Routing] = {routing.name: routing for routing in _made()}


def sizes_for(routing: Routing, declared: Sizes, own: Sizes) -> dict[str, Any] | str:
    """The sizes of a layer under a routing, or why the routing does not apply.

    The user's `own` sizes win; others are small enough to compile in seconds.
    """
    if routing.needs and routing.needs not in declared:
        return f"the layer has no size '{routing.needs}'"
    if routing.needs in own:
        return f"{routing.needs}={own[routing.needs]} was asked for"
    if "experts" not in declared and routing.wants is not balanced:
        return "the layer has no experts"
    sizes = {name: _shrunk(name, value) for name, value in declared.items()}
    if "k" in sizes and sizes["k"] > BASE["experts"] // 2:
        sizes["k"] = BASE["experts"] // 2
    sizes |= {n: v for n, v in routing.sizes.items() if n in declared}
    sizes |= own
    if sizes.get("k") == "experts":
        sizes["k"] = sizes["experts"]
    if "k" in sizes and "k" not in own and "experts" in sizes:
        sizes["k"] = min(sizes["k"], sizes["experts"])
    counted = {"capacity_factor", "experts"} <= sizes.keys() and sizes.get("tokens")
    if counted and "capacity_factor" not in own:
        least = 2.0 * sizes["experts"] / sizes["tokens"]
        sizes["capacity_factor"] = max(sizes["capacity_factor"], least)
    return sizes


def _shrunk(name: str, value: Any) -> Any:
    if name in BASE and name != "k":
        return BASE[name]
    return min(value, 48) if type(value) is int else value
