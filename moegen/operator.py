"""A compiled layer: what the user calls, differentiates, reads and reports on."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from backends.emitted import Emitted
from ir import mlir
from ir.errors import (
    BadArgument,
    InputMismatch,
    MissingInput,
    UnknownInput,
    nearest,
)
from ir.types import Tensor, from_attribute, from_mlir

if TYPE_CHECKING:
    from moegen.report import KernelRow

Params = dict[str, jax.Array]
Aux = dict[str, Any]


@dataclass(frozen=True)
class InputFact:
    """An input of the layer: its type, and how it is made if it is left out."""

    tensor: Tensor
    axes: tuple[str, ...]
    default: str | None


@dataclass(frozen=True, eq=False)
class Op:
    """A layer compiled for one target.

    `stages` holds the IR after each pass, `emitted` the module that runs, `path` where
    the layer's own text of it lies. `weights` is "int8" or "fp8" where matrices are
    stored in one byte an element.
    """

    module: mlir.Module
    stages: Mapping[str, str]
    emitted: Emitted
    path: Path
    loaded: ModuleType
    target: str
    weights: str | None = None

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name}={value}" for name, value in self.sizes.items())
        return f"<{self.name} for {self.target}: {sizes}>"

    @property
    def source(self) -> str:
        """The layer's own text; a TPU's kernels are in `emitted.beside`."""
        return self.emitted.text

    @property
    def name(self) -> str:
        return mlir.string(self.module.operation, "sym_name")

    @property
    def sizes(self) -> dict[str, Any]:
        """The layer's sizes and options."""
        return dict(from_attribute(self.module.operation.attributes["moe.sizes"]))

    @property
    def inputs(self) -> dict[str, InputFact]:
        return {
            told["moe.input"]: InputFact(
                kind, tuple(told["moe.axes"]), told.get("moe.default")
            )
            for kind, told in self._arguments()
            if "moe.input" in told
        }

    @property
    def parameters(self) -> dict[str, Tensor]:
        """The type of each parameter."""
        return {
            told["moe.param"]: kind
            for kind, told in self._arguments()
            if "moe.param" in told
        }

    @property
    def axes(self) -> dict[str, tuple[str, ...]]:
        """The named axes of each parameter."""
        return {
            told["moe.param"]: tuple(told["moe.axes"])
            for _, told in self._arguments()
            if "moe.param" in told
        }

    def _arguments(self) -> list[tuple[Tensor, dict[str, Any]]]:
        function = mlir.functions(self.module)["forward"]
        facts = [from_attribute(fact) for fact in mlir.argument_facts(function)]
        kinds = [from_mlir(a.type) for a in mlir.entry(function).arguments]
        return list(zip(kinds, facts, strict=True))

    def report(self) -> "list[KernelRow]":
        """What each kernel needs at least, estimated from shapes."""
        from moegen.report import report

        return report(self.module, self.target)

    def init(self, key: jax.Array) -> Params:
        """Fresh parameters, a plain dict of arrays, as the op takes them.

        `key` is one of `jax.random.key`; raises `BadArgument` for anything else.
        """
        _require_key("init", key)
        made = cast(Params, self.loaded.init(key))
        return self.quantise(made) if self.weights else made

    def quantise(self, params: Params) -> Params:
        """Float parameters, as of the layer without `weights`, as this op takes them.

        Each matrix `w` that products read becomes int8 or float8_e4m3fn, and beside it
        stands `w_scale`, float32, one number for each expert and output channel: the
        channel's largest |w| divided by 127 (int8) or 448 (fp8). Stored is w / scale in
        float32, rounded to the nearest number of the dtype, ties to even; int8 is
        symmetric, -127 to 127. A channel of zeros has the scale 0. Routers, biases and
        whatever else is no matrix of a product stay as they are. Matrices may be of any
        floating point. Raises `BadArgument`, `MissingInput`, `InputMismatch`.
        """
        if self.weights is None:
            reason = (
                f"the layer '{self.name}' takes its parameters as they are: compile it "
                "with weights='int8' or weights='fp8' to store them in one byte"
            )
            raise BadArgument(reason=reason)
        for name, kind in self._float_parameters().items():
            given = params.get(name)
            if given is None:
                fix = "pass the parameters of the layer compiled without weights"
                raise self._missing("parameter", name, kind, fix)
            if jnp.issubdtype(jnp.result_type(given), jnp.floating):
                kind = kind.with_dtype(str(jnp.result_type(given)))
            self._check("parameter", name, given, kind)
        return cast(Params, self.loaded.quantise(params))

    def _float_parameters(self) -> dict[str, Tensor]:
        """What `quantise` takes."""
        block = mlir.entry(mlir.functions(self.module)["quantise"])
        facts = map(from_attribute, mlir.argument_facts(block.owner))
        pairs = zip(facts, block.arguments, strict=True)
        return {told["moe.param"]: from_mlir(a.type) for told, a in pairs}

    def __call__(
        self,
        params: Params,
        *inputs: jax.Array,
        key: jax.Array | None = None,
        **named: jax.Array,
    ) -> tuple[jax.Array, Aux]:
        """The output, and {"loss": weighted sum, "losses": ..., "metrics": ...}.

        Inputs may be given by position or by name; those with a default may be left
        out, and a layer that draws random numbers takes `key`. Call it under `jax.jit`:
        elsewhere JAX compiles its loops anew at every call. Differentiable once, in
        reverse mode. Raises `MissingInput`, `UnknownInput`, `InputMismatch`,
        `BadArgument`.
        """
        self._check_params(params)
        arrays = self.bind(inputs, named, key)
        return cast(tuple[jax.Array, Aux], self.loaded.layer(params, *arrays))

    def bind(
        self,
        inputs: tuple[jax.Array, ...],
        named: Mapping[str, jax.Array],
        key: jax.Array | None,
    ) -> list[jax.Array]:
        """All inputs in order, defaults filled in, each checked."""
        declared = self.inputs
        self._refuse_unknown("input", named, declared)
        if len(inputs) > len(declared):
            fix = f"its inputs are {', '.join(declared)}"
            reason = f"the layer '{self.name}' got {len(inputs)} inputs by position"
            raise BadArgument(reason=f"{reason}: {fix}")
        twice = [n for n, _ in zip(declared, inputs, strict=False) if n in named]
        if twice:
            reason = f"the layer '{self.name}' got its input '{twice[0]}' twice, by "
            raise BadArgument(reason=f"{reason}position and by name: pass it once")
        given = dict(zip(declared, inputs, strict=False)) | dict(named)
        made = []
        for index, (name, fact) in enumerate(declared.items()):
            value = given.get(name)
            if value is None:
                value = self._default(name, fact, key, index)
            self._check("input", name, value, fact.tensor)
            made.append(value)
        return made

    def _default(
        self, name: str, fact: InputFact, key: jax.Array | None, index: int
    ) -> jax.Array:
        shape, dtype = fact.tensor.shape, fact.tensor.dtype
        if fact.default == "ones":
            return jnp.ones(shape, dtype)
        if fact.default == "uniform" and key is not None:
            _require_key(f"the layer '{self.name}'", key)
            own = jax.random.fold_in(key, index)
            return jax.random.uniform(own, shape, jnp.float32).astype(dtype)
        fix = "pass it, or key=jax.random.key(...)" if fact.default else "pass it"
        raise self._missing("input", name, fact.tensor, fix)

    def _missing(self, what: str, name: str, kind: Tensor, fix: str) -> MissingInput:
        return MissingInput(
            layer=self.name, what=what, name=name, kind=str(kind), fix=fix
        )

    def _refuse_unknown(
        self, kind: str, given: Mapping[str, Any], known: Mapping[str, Any]
    ) -> None:
        """Raise `UnknownInput` for a name that is none of the layer's."""
        for name in given:
            if name not in known:
                raise UnknownInput(
                    layer=self.name,
                    kind=kind,
                    name=name,
                    known=", ".join(known) or "none",
                    nearest=nearest(str(name), list(known)),
                )

    def _check_params(self, params: Params) -> None:
        if not isinstance(params, Mapping):
            reason = (
                f"the layer '{self.name}' takes its parameters first, a dict of arrays "
                f"as op.init(key) returns, and got {type(params).__name__}"
            )
            raise BadArgument(reason=reason)
        self._refuse_unknown("parameter", params, self.parameters)
        for name, kind in self.parameters.items():
            if name not in params:
                fix = "use what op.init(key) returns"
                fix += ", or op.quantise(params)" if self.weights else ""
                raise self._missing("parameter", name, kind, fix)
            self._check("parameter", name, params[name], kind)

    def _check(self, what: str, name: str, value: Any, kind: Tensor) -> None:
        if not isinstance(value, jax.Array | np.ndarray | np.generic | int | float):
            reason = (
                f"the {what} '{name}' of the layer '{self.name}' must be an array "
                f"{Tensor(kind.shape, kind.dtype)}, and is a {type(value).__name__}: "
                "convert it with jnp.asarray"
            )
            raise BadArgument(reason=reason)
        shape, dtype = np.shape(value), str(jnp.result_type(value))
        if shape == kind.shape and dtype == kind.dtype:
            return
        raise InputMismatch(
            kind=what,
            name=name,
            layer=self.name,
            expected=Tensor(kind.shape, kind.dtype),
            got=Tensor(tuple(shape), dtype),
            fix="recompile with other sizes or dtype, or convert the array"
            + (" (op.quantise converts float parameters)" if self.weights else ""),
        )


def _require_key(what: str, key: Any) -> None:
    if not isinstance(key, jax.Array | np.ndarray):
        reason = f"{what} takes a key, such as jax.random.key(0), and got {key!r}"
        raise BadArgument(reason=reason)
