"""The targets, and what each backend offers the compiler."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from backends.chips import CHIPS
from backends.emitted import Emitted
from backends.estimate import Estimate
from backends.schedule_choices import Choices
from ir import mlir
from ir.errors import BadArgument, UnknownTarget, UnsupportedByTarget, nearest
from ir.narrow import STORED


@dataclass(frozen=True)
class Target:
    """One target: its name, and how to schedule and emit for it.

    `cuts` says that programs of experts are cut at their products (see `cut`),
    `multiplies_bfloat16` that a CPU has instructions for that.
    """

    name: str
    cuts: bool = False
    multiplies_bfloat16: bool = False

    @property
    def kernel_memory(self) -> int:
        """Bytes on the chip that one kernel may take; 0 for any number."""
        if not self.cuts:
            return 0
        limit: int = _load("backends.tpu.schedule").vmem_limit(CHIPS[self.name])
        return limit

    def require_weights(self, weights: str | None) -> None:
        """Raise unless the target has weights of that name; None are the layer's own.

        Raises `BadArgument` for a name that is none, and `UnsupportedByTarget`.
        """
        if weights is None:
            return
        if weights not in STORED:
            known = list(STORED)
            listed, close = " or ".join(known), nearest(str(weights), known)
            reason = f"weights can be {listed}, or left out, not '{weights}'{close}"
            raise BadArgument(reason=reason)
        chip = CHIPS[self.name if self.cuts else "cpu"]
        if weights not in chip.narrow:
            has = [*chip.narrow, "bfloat16"]
            fixes = [f"with weights='{name}'" for name in chip.narrow]
            fix = f"compile {' or '.join((*fixes, 'without weights'))}"
            reason = f"a {chip.title} multiplies by {' and '.join(has)} alone: {fix}"
            what = f"a layer with {weights} weights"
            raise UnsupportedByTarget(target=self.name, what=what, reason=reason)

    def schedule(self, module: mlir.Module, choices: Choices) -> None:
        """Put schedules on the kernel ops: what is chosen, and the target's defaults.

        Raises `IllegalSchedule`, `KernelTooLarge`, `IndexOverflow`,
        `UnknownScheduleField`, or `UnsupportedByTarget`.
        """
        if self.cuts:
            schedule = _load("backends.tpu.scheduling").schedule_module
            schedule(module, self.name, choices)
            return
        cpu = _load("backends.cpu.scheduling")
        cpu.schedule_module(module, self.name, self.multiplies_bfloat16, choices)

    def estimates(self, module: mlir.Module) -> dict[int, Estimate]:
        """What the kernels of a scheduled module ask of the chip, by their ops' hashes.

        A CPU has none: its figures as a chip are not known.
        """
        if not self.cuts:
            return {}
        found: dict[int, Estimate] = _load("backends.tpu.estimates").estimates(
            module, self.name
        )
        return found

    def plain_estimate(
        self, name: str, flops: int, moved: int, dtype: str
    ) -> Estimate | None:
        """The estimate of an op that no kernel runs, from its own counts."""
        if not self.cuts:
            return None
        made: Estimate = _load("backends.tpu.estimates").plain(
            name, flops, moved, dtype, self.name
        )
        return made

    def emit(self, module: mlir.Module, interpret: bool = False) -> Emitted:
        """The module as Python; with `interpret` it runs on any machine."""
        if self.cuts:
            emit = _load("backends.tpu.emit").emit
            tpu: Emitted = emit(module, self.name, interpret)
            return tpu
        cpu: Emitted = _load("backends.cpu.emit").emit(module, self.name)
        return cpu


HOST = "host"
TARGETS: Mapping[str, Target] = {
    "cpu": Target("cpu"),
    "cpu-bf16": Target("cpu-bf16", multiplies_bfloat16=True),
    **{c.name: Target(c.name, cuts=True) for c in CHIPS.values() if c.kind == "tpu"},
}


def find_target(name: str) -> Target:
    """The target of that name; raises `UnknownTarget` with the nearest.

    A chip of the table without a backend raises `UnsupportedByTarget`.
    "host" is the one of the CPU targets that fits this machine.
    """
    if name == HOST:
        native = _load("backends.cpu.features").multiplies_bfloat16()
        return TARGETS["cpu-bf16" if native else "cpu"]
    listed = ", ".join((HOST, *TARGETS))
    if name in CHIPS and name not in TARGETS:
        reason = f"this version has no kernels for it; the targets are {listed}"
        raise UnsupportedByTarget(target=name, what="a layer yet", reason=reason)
    if name not in TARGETS:
        close = nearest(str(name), [HOST, *TARGETS])
        raise UnknownTarget(target=name, targets=listed, nearest=close)
    return TARGETS[name]


def _load(module: str) -> Any:
    # Imported when used: a command for one target does not pay for the others.
    return import_module(module)
