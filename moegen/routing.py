"""What is known of choices while a layer is traced: their experts and their rows."""

import re

import jax
import jax.numpy as jnp

from ir.errors import ShapeMismatch
from moegen.arguments import require_tensors
from moegen.places import user_place
from moegen.primitives import apply
from moegen.session import Routing, current

# The metrics that `record_load` makes: of a second dispatch load_2, and so on.
AUTOMATIC = re.compile(r"(load|dropped|dead)(_\d+)?")


def remember(choice: jax.Array, experts: int, rows: int) -> None:
    """Note the experts that a choice is among, and how many rows it can keep."""
    routings = current("choice").routings
    routings[id(choice)] = (choice, Routing(experts, rows))


def routing_of(choice: jax.Array) -> Routing | None:
    return current("choice").routings.get(id(choice), (None, None))[1]


def known_routing(choice: jax.Array, op: str, experts: int | None) -> Routing:
    """What is known of a choice, or what the user says of a choice of their own.

    Raises `ShapeMismatch` where neither says how many experts there are, or both do and
    differ.
    """
    require_tensors(op, choice)
    known = routing_of(choice)
    session, where = current(op), user_place()
    if known and experts not in (None, known.experts):
        raise ShapeMismatch(
            where,
            op=op,
            expected=f"the {known.experts} experts that its choice was made among",
            got=f"experts={experts}",
            fix="leave experts out",
        )
    if known:
        return known
    if experts is None:
        raise ShapeMismatch(
            where,
            op=op,
            expected="a choice made by top_k, expert_choice, hash_choice or drop",
            got=session.describe(choice),
            fix="pass experts=... for a choice of your own",
        )
    return Routing(experts, choice.size)


def record_load(choice: jax.Array, known: Routing) -> None:
    """Record rows per expert, choices dropped, and experts without rows."""
    metrics = current("dispatch").metrics
    earlier = sum(bool(AUTOMATIC.fullmatch(name)) for name in metrics) // 3
    suffix = f"_{earlier + 1}" if earlier else ""
    load = apply("moe.count", choice, experts=known.experts, groups=1).reshape(-1)
    metrics["load" + suffix] = load
    metrics["dropped" + suffix] = jnp.sum(
        (choice < 0).astype(jnp.int32), dtype=jnp.int32
    )
    metrics["dead" + suffix] = jnp.sum((load == 0).astype(jnp.int32), dtype=jnp.int32)
