"""The functions around a layer's statements: arguments, results, and the custom vjp."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from backends.layout import WIDTH
from ir import mlir
from ir.errors import NoGradient
from ir.narrow import SPOKEN
from ir.op import attributes_of
from ir.types import from_attribute

_INDENT = 4
Bodies = Mapping[str, tuple[list[str], list[str]]]


def wrapper_lines(
    module: mlir.Module, bodies: Bodies, results: Mapping[str, list[str]]
) -> list[str]:
    """`forward`, `forward_residuals`, `backward` and the differentiable `layer`."""
    layer = mlir.string(module.operation, "sym_name")
    functions = mlir.functions(module)
    facts = {
        name: [from_attribute(fact) for fact in mlir.argument_facts(function)]
        for name, function in functions.items()
    }
    told = {
        name: [from_attribute(fact) for fact in mlir.result_facts(function)]
        for name, function in functions.items()
    }
    inputs = [f["moe.input"] for f in facts["forward"] if "moe.input" in f]
    made = [_forward("forward", facts, bodies, told, results)]
    if "quantise" in functions:
        return [*made, *_inference(layer, _stored(functions["quantise"]), inputs)]
    if "backward" not in functions:
        return [*made, _plain_layer(inputs)]
    made.append(_forward("forward_residuals", facts, bodies, told, results))
    made.append(_backward(functions["forward"], facts, bodies, told, results))
    return [*made, *_differentiable(inputs)]


def _typed(names: Sequence[str]) -> str:
    return ", ".join(f"{name}: jax.Array" for name in names)


def _inputs(facts: Sequence[Mapping[str, Any]], arguments: Sequence[str]) -> list[str]:
    return [n for n, f in zip(arguments, facts, strict=True) if "moe.input" in f]


def _unpack(
    facts: Sequence[Mapping[str, Any]], arguments: Sequence[str], body: str
) -> list[str]:
    """Bring the parameters that the body reads out of `params`: a line, if it fits."""
    read = {
        name: f'params["{fact["moe.param"]}"]'
        for name, fact in zip(arguments, facts, strict=True)
        if "moe.param" in fact and _reads(body, name)
    }
    line = f"{', '.join(read)} = {', '.join(read.values())}"
    if read and len(line) <= WIDTH - _INDENT:
        return [line]
    return [f"{name} = {text}" for name, text in read.items()]


def _reads(body: str, name: str) -> bool:
    words = "".join(c if c.isalnum() or c == "_" else " " for c in body).split()
    return name in words


def _function(head: str, doc: str, lines: Sequence[str]) -> str:
    return "\n".join((head, f'    """{doc}"""', *(f"    {line}" for line in lines)))


def _forward(name: str, facts: Any, bodies: Bodies, told: Any, results: Any) -> str:
    arguments, lines = bodies[name]
    returned = _results(told[name], results[name])
    kept = [
        r for r, f in zip(results[name], told[name], strict=True) if "moe.residual" in f
    ]
    body = "\n".join((*lines, returned, *kept))
    inputs = _inputs(facts[name], arguments)
    head = f"def {name}(params: Params, {_typed(inputs)}) -> "
    if name == "forward":
        doc = "The output, and losses and metrics by name."
        head += "tuple[jax.Array, Aux]:"
        last = [f"return {returned}"]
    else:
        doc = "What `forward` returns, and what `backward` needs besides its arguments."
        head += "tuple[tuple[jax.Array, Aux], Arrays]:"
        last = [f"results = {returned}", f"return results, {_tuple(kept)}"]
    return _function(head, doc, [*_unpack(facts[name], arguments, body), *lines, *last])


def _results(told: Sequence[Mapping[str, Any]], values: Sequence[str]) -> str:
    groups: dict[str, list[str]] = {"losses": [], "metrics": []}
    output = loss = ""
    for fact, value in zip(told, values, strict=True):
        name = fact.get("moe.result", "")
        if name == "output":
            output = value
        elif name == "loss":
            loss = value
        elif "." in name:
            group, key = name.split(".", 1)
            groups[group].append(f'"{key}": {value}')
    inner = ", ".join(f'"{k}": {{{", ".join(v)}}}' for k, v in groups.items())
    return f'({output}, {{"loss": {loss}, {inner}}})'


def _backward(
    function: mlir.OpView, facts: Any, bodies: Bodies, told: Any, results: Any
) -> str:
    arguments, lines = bodies["backward"]
    here = facts["backward"]
    kept = [n for n, f in zip(arguments, here, strict=True) if "moe.residual" in f]
    given = {
        f["moe.cotangent"]: n
        for n, f in zip(arguments, here, strict=True)
        if "moe.cotangent" in f
    }
    gradients = {
        f["moe.result"].removeprefix("d_"): value
        for f, value in zip(told["backward"], results["backward"], strict=True)
    }
    body = "\n".join((*lines, *gradients.values()))
    unpacked = [*_unpack(here, arguments, body)]
    if kept:
        left = ", ".join(kept)
        left = left if len(kept) > 1 and len(left) < 70 else _tuple(kept)
        unpacked.append(f"{left} = kept")
    for key, name in given.items():
        if not _reads(body, name):
            continue
        place = (
            "d_output"
            if key == "output"
            else "d_aux" + "".join(f'["{part}"]' for part in key.split("."))
        )
        unpacked += [] if place == name else [f"{name} = {place}"]
    params = {f["moe.param"] for f in here if "moe.param" in f}
    d_params = ", ".join(f'"{k}": {v}' for k, v in gradients.items() if k in params)
    inputs = _inputs(here, arguments)
    d_inputs = [gradients.get(f["moe.input"], "None") for f in here if "moe.input" in f]
    last = [f"return ({{{d_params}}}, {', '.join(d_inputs)})"]
    head = (
        f"def backward(params: Params, {_typed(inputs)}, kept: Arrays, "
        "d_output: jax.Array, d_aux: Aux) -> Gradients:"
    )
    doc = "Gradients of the parameters and of each input; None where there is none."
    return _function(head, doc, [*unpacked, *lines, *last])


def _plain_layer(inputs: Sequence[str]) -> str:
    return _function(
        f"def layer(params: Params, {_typed(inputs)}) -> tuple[jax.Array, Aux]:",
        "The output, and losses and metrics by name.",
        [f"return forward(*vary_alike((params, {', '.join(inputs)})))"],
    )


def _stored(quantise: mlir.OpView) -> str:
    """What a user calls the dtype of matrices."""
    ops = mlir.entry(quantise).operations
    told = next(attributes_of(o) for o in ops if o.operation.name == "kernel.quantise")
    return SPOKEN[told["stored"]]


def _inference(layer: str, weights: str, inputs: Sequence[str]) -> list[str]:
    """The layer without a gradient: asking for one raises what `NoGradient` says."""
    listed = ", ".join(inputs)
    why = NoGradient(layer=layer, weights=weights)
    main = [
        "@jax.custom_jvp",
        f"def layer(params: Params, {_typed(inputs)}) -> tuple[jax.Array, Aux]:",
        '    """The output, and losses and metrics by name; it has no gradient."""',
        f"    return forward(*vary_alike((params, {listed})))",
        "",
        "",
        "@layer.defjvp",
        "def no_gradient(primals: Saved, tangents: Saved) -> Saved:",
        "    raise TypeError(",
        *(f'        "{line}"' for line in _broken(str(why))),
        "    )",
    ]
    return ["\n".join(main)]


def _broken(sentence: str) -> list[str]:
    """A sentence as texts that fit a line, each but the last with its space."""
    lines = textwrap.wrap(sentence, 74)
    return [f"{line} " for line in lines[:-1]] + lines[-1:]


def _differentiable(inputs: Sequence[str]) -> list[str]:
    listed = ", ".join(inputs)
    main = [
        f"def layer(params: Params, {_typed(inputs)}) -> tuple[jax.Array, Aux]:",
        '    """The output, and losses and metrics by name; differentiable."""',
        f"    return with_gradients(*vary_alike((params, {listed})))",
        "",
        "",
        "def layer_forward(*arguments: Any) -> tuple[tuple[jax.Array, Aux], Saved]:",
        "    results, kept = forward_residuals(*arguments)",
        "    return results, (arguments, kept)",
        "",
        "",
        "def layer_backward(saved: Saved, cotangents: Cotangents) -> Gradients:",
        "    arguments, kept = saved",
        "    return once(backward(*arguments, kept, *cotangents))",
        "",
        "",
        "with_gradients = jax.custom_vjp(forward)",
        "with_gradients.defvjp(layer_forward, layer_backward)",
    ]
    return ["\n".join(main)]


def _tuple(items: Sequence[str]) -> str:
    return f"({items[0]},)" if len(items) == 1 else f"({', '.join(items)})"
