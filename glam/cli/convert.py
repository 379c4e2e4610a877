"""`glam convert`: a run, or safetensors, as safetensors that others can read."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glam.cli.model_options import loaded, model_options
from ir.errors import BadArgument
from moegen.cli.program import DONE, Subparsers, add_command, print_json

if TYPE_CHECKING:
    from glam.loading import Loaded

DTYPES = ("float32", "bfloat16")
TOKENS = 64  # that the logits are compared on


def register(subparsers: Subparsers) -> None:
    """Add the command `convert`."""
    parser = add_command(
        subparsers,
        "convert",
        "write a model as safetensors with a configuration and its tokenizer",
        "glam convert runs/tiny --out tiny",
    )
    model_options(parser)
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="FOLDER", help="where it is written")
    add("--overwrite", action="store_true", help="replace a model that stands there")
    add("--dtype", choices=DTYPES, help="of the parameters (default: as they are)")
    add("--json", action="store_true", help="print one JSON document")


def run(arguments: argparse.Namespace) -> int:
    """Convert, read what was written, and compare both."""
    from glam.data.writing import atomic_folder, check_free
    from glam.interchange import CONFIG, load, save

    check_free(arguments.out, arguments.overwrite)
    model = loaded(arguments)
    config, params = _cast(model, arguments.dtype)
    with atomic_folder(arguments.out, CONFIG, arguments.overwrite) as folder:
        save(config, params, folder, model.tokenizer)
        told = _compared(model, config, params, load(folder))
        told |= {"files": {f.name: f.stat().st_size for f in sorted(folder.iterdir())}}
    if arguments.json:
        own = {"out": str(arguments.out), "step": model.step}
        print_json(own | {"tokenizer": model.tokenizer.fingerprint} | told)
        return DONE
    print(
        f"wrote {arguments.out}: {told['tensors']} tensors, {told['parameters']:,} "
        f"parameters, {sum(told['files'].values()):,} bytes\nread back: every tensor "
        f"bit for bit; logits of {told['logits_of']} tokens differ from the source's "
        f"by at most {told['logits_differ_by']:g} (computed on {told['device']})"
    )
    return DONE


def _cast(model: "Loaded", dtype: str | None) -> tuple[Any, Any]:
    """Configuration and parameters in another dtype, if one is asked for."""
    import jax

    from glam.model import abstract

    if dtype is None:
        return model.config, model.params
    config = replace(model.config, parameter_dtype=dtype)
    # Routers keep their own dtype, float32.
    return config, jax.tree.map(
        lambda array, kind: array.astype(kind.dtype), model.params, abstract(config)
    )


def _compared(
    model: "Loaded", config: Any, params: Any, written: tuple[Any, Any]
) -> dict[str, Any]:
    """What was written beside what it was made of; raises `BadArgument`."""
    import jax
    import numpy as np

    from glam.interchange import named

    found, back = written
    if found != config:
        raise BadArgument(reason="the configuration that was written reads differently")
    arrays = named(back)
    for name, array in named(params).items():
        if np.asarray(array).tobytes() != arrays[name].tobytes():
            raise BadArgument(
                reason=f"the tensor {name} reads back with other bits than were "
                "written: the disk, or the memory, is failing"
            )
    before, after = _logits(model.config, model.params), _logits(found, back)
    return {
        "tensors": len(arrays),
        "parameters": sum(array.size for array in arrays.values()),
        "logits_of": before.shape[1],
        "logits_differ_by": float(np.max(np.abs(before - after))),
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
    }


def _logits(config: Any, params: Any) -> Any:
    """Logits [1, tokens, vocabulary] of a row in which every token is another."""
    import jax
    import numpy as np

    from glam.model import forward

    count = min(TOKENS, config.sequence)
    row = (np.arange(count, dtype=np.int32) * 7 + 1)[None] % config.vocabulary
    served = config.serving()
    logits, _ = jax.jit(forward, static_argnums=0)(
        served, params, row, np.ones_like(row)
    )
    return np.asarray(logits)
