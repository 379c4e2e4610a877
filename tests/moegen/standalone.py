"""Run emitted modules on saved arrays: imported here, and run as a child by itself.

As a child, in a folder of cases, it imports nothing of this project, and sees to it
that nothing can.
"""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

OURS = ("moegen", "ir", "backends", "examples", "glam", "bench", "tests")


class Wall:
    """Lets no import of this project pass."""

    def find_spec(self, name: str, *_: Any) -> None:
        if name.split(".")[0] in OURS:
            raise ImportError(f"{name} is behind the wall")


def load(path: Path) -> ModuleType:
    name = path.parent.name if path.stem == "__init__" else path.stem
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def results(module: ModuleType, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Output, loss and every gradient, for a random cotangent of the output."""
    params = {k[2:]: jnp.asarray(v) for k, v in given.items() if k[:2] == "p_"}
    inputs = [jnp.asarray(v) for k, v in given.items() if k[:2] == "i_"]

    def scalar(params: Any, x: Any) -> Any:
        y, aux = module.layer(params, x, *inputs[1:])
        return jnp.sum(y * given["cotangent"]) + aux["loss"], (y, aux["loss"])

    run = jax.jit(jax.value_and_grad(scalar, argnums=(0, 1), has_aux=True))
    (_, (y, loss)), (d_params, d_x) = run(params, inputs[0])
    gradients = {f"d_{name}": value for name, value in d_params.items()}
    found = {"y": y, "loss": loss, "d_x": d_x, **gradients}
    return {name: np.asarray(value) for name, value in found.items()}


def main() -> None:
    sys.meta_path.insert(0, Wall())  # type: ignore[arg-type]
    for name, path in json.loads(Path("cases.json").read_text()).items():
        given = dict(np.load(f"{name}.given.npz"))
        np.savez(f"{name}.got.npz", **results(load(Path(path)), given))
    reached = [name for name in sys.modules if name.split(".")[0] in OURS]
    assert not reached, reached


if __name__ == "__main__":
    main()
