"""The feed-forward layers, each compiled by moegen for the tokens of one call."""

import inspect
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp

import moegen
from glam.model.config import Config
from ir import mlir
from ir.errors import BadArgument
from ir.op import attributes_of, operand_types
from moegen.layers import find_layer
from moegen.operator import Op

DENSE = "glam_dense"
RANDOM = "gshard"  # GLaM's layer with GShard's random second expert


def compiled(config: Config, kind: str, tokens: int) -> Op:
    """The op of a layer's `kind`, "moe" or "dense", on [tokens, model].

    Raises what `moegen.compile` raises.
    """
    sizes = _sizes(config, kind, tokens)
    name = _layer_name(config, kind)
    tile = config.tile_rows if kind == "moe" else None
    return _compiled(name, config.target, config.activation_dtype, tile, sizes)


def parameters(config: Config, kind: str) -> Op:
    """An op for what its parameters are, in the dtype that they are kept in."""
    alone = config.serving()
    sizes = _sizes(alone, kind, alone.sequence)
    name = _layer_name(config, kind)
    return _compiled(name, config.target, config.parameter_dtype, None, sizes)


@lru_cache(maxsize=64)
def unservable(config: Config) -> str | None:
    """Why a model cannot generate or score text, or None if it can.

    It cannot where a token depends on later ones, also when it is served. That is read
    off the layer's own ops, whatever the layer is called.
    """
    why = _looks_ahead(config)
    if why is None:
        return None
    return (
        f"a model with the layer '{config.layer}' cannot generate or score text: {why}"
    )


def _looks_ahead(config: Config) -> str | None:
    if config.experts is None:
        return None
    traced = mlir.parse(parameters(config, "moe").stages["trace"])
    for op in mlir.walk(mlir.entry(mlir.functions(traced)["forward"])):
        if op.operation.name == "moe.expert_choice":
            return "there experts choose among all tokens, also those that come later"
        if op.operation.name != "moe.assign":
            continue
        told = attributes_of(op)
        group = operand_types(op)[0].shape[0] // told["groups"]
        if told["capacity"] < group:
            return (
                f"there an expert takes {told['capacity']} of {group} tokens, and "
                "which those are depends on later ones; give the layer an option "
                "capacity_factor or dropless, by which serving drops nothing"
            )
    return None


def apply(
    op: Op,
    params: dict[str, jax.Array],
    x: jax.Array,
    given: Mapping[str, jax.Array],
) -> tuple[jax.Array, dict[str, Any]]:
    """Output float32 [tokens, model], and losses and metrics, of x [tokens, model].

    `given` are inputs that a layer may take beside x, by name; one that it does not
    take is left out. Raises `MissingInput`.
    """
    kinds = op.parameters
    held = {name: params[name].astype(kind.dtype) for name, kind in kinds.items()}
    declared = op.inputs
    inputs = {name: array for name, array in given.items() if name in declared}
    output, aux = op(held, x, **inputs)
    return output.astype(jnp.float32), aux


def noise(op: Op, key: jax.Array | None) -> dict[str, jax.Array]:
    """What the layer draws: U[0, 1), for each input that says so."""
    drawn = {n: f for n, f in op.inputs.items() if f.default == "uniform"}
    if drawn and key is None:
        reason = (
            f"the layer '{op.name}' draws random numbers ({', '.join(drawn)}): pass "
            "key=jax.random.key(...)"
        )
        raise BadArgument(reason=reason)
    return {
        name: jax.random.uniform(jax.random.fold_in(key, index), fact.tensor.shape)
        for index, (name, fact) in enumerate(drawn.items())
        if key is not None
    }


def _layer_name(config: Config, kind: str) -> str:
    if kind == "dense":
        return DENSE
    return RANDOM if config.second_choice == "random" else config.layer


def _sizes(config: Config, kind: str, tokens: int) -> tuple[tuple[str, Any], ...]:
    """What the layer takes of the model's sizes and options, as sorted pairs."""
    declared = _declared(_layer_name(config, kind))
    known: dict[str, Any] = {
        "tokens": tokens,
        "model": config.model,
        "hidden": config.hidden,
    }
    if kind == "moe":
        known |= {
            "experts": config.experts,
            "k": config.k,
            "groups": config.groups,
            "balance_weight": config.balance_weight,
            "activation": config.activation,
            **_capacity(config, declared),
        }
    sizes = {name: value for name, value in known.items() if name in declared}
    own = dict(config.layer_options) if kind == "moe" else {}
    return tuple(sorted((sizes | own).items()))


def _capacity(config: Config, declared: frozenset[str]) -> dict[str, Any]:
    if config.capacity_factor is not None:
        return {"capacity_factor": float(config.capacity_factor)}
    if "dropless" in declared:
        return {"dropless": True, "groups": 1}
    # Then each expert has a place for every token.
    return {"capacity_factor": float(config.experts or 1), "groups": 1}


def _declared(name: str) -> frozenset[str]:
    parameters = inspect.signature(find_layer(name)).parameters.values()
    return frozenset(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)


@lru_cache(maxsize=64)
def _compiled(
    name: str,
    target: str,
    dtype: str,
    tile: int | None,
    sizes: tuple[tuple[str, Any], ...],
) -> Op:
    chosen = {} if tile is None else {"tile_rows": tile}
    return moegen.compile(
        find_layer(name), target, dtype, schedule=chosen, **dict(sizes)
    )
