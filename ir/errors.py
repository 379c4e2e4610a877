"""Every error a user can meet: what is wrong, where, the numbers, and what to do.

One class an error, with its sentence as a template. `where` is the user's own line
of DSL, or a place in a file. The command line prints `str(error)` and exits with 2.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar


@dataclass(frozen=True)
class Where:
    """A line of a user's file."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{Path(self.file).name}:{self.line}"


class MoegenError(Exception):
    """Base of all; `facts` fill the class' sentence."""

    sentence: ClassVar[str] = "{reason}"

    def __init__(self, where: Where | None = None, **facts: Any) -> None:
        self.where = where
        self.facts = facts
        text = self.sentence.format(**facts)
        super().__init__(f"{where}: {text}" if where else text)


class LayerError(MoegenError):
    """The layer, as the user wrote it, cannot be compiled."""


class UnknownAxis(LayerError):
    sentence = (
        "{what} names the axis '{axis}', which is not a size of the layer; its sizes "
        "are {sizes}: add '{axis}' to the layer's arguments, or correct the name"
    )


class ShapeMismatch(LayerError):
    sentence = "{op} takes {expected}, and got {got}: {fix}"


class RankMismatch(LayerError):
    sentence = "{op} takes {expected}, and got {got} with {rank} axes: {fix}"


class DtypeMismatch(LayerError):
    sentence = "{op} takes {expected}, and got {got}: {fix}"


class WrongArgument(LayerError):
    sentence = "{op} takes {expected}, and got {got}: {fix}"


class BadName(LayerError):
    sentence = "the {kind} cannot be called {name}: {why}; {fix}"


class TooManyChoices(LayerError):
    sentence = (
        "top_k takes k={k} of {experts} experts: k can be at most the number of experts"
    )


class TooFewChoices(LayerError):
    sentence = "top_k takes k={k}: every token needs at least one choice, so k >= 1"


class CapacityNotPositive(LayerError):
    sentence = (
        "the capacity is {capacity} rows per expert: it must be positive; raise the "
        "capacity factor, or leave the capacity out to drop no token"
    )


class CapacityBelowOneRow(LayerError):
    sentence = (
        "the capacity comes to less than one row: {tokens} tokens a group x factor "
        "{factor} / {experts} experts = {rows:.3g}; use a factor of at least "
        "{least:g}, or larger groups"
    )


class CapacityTooLarge(LayerError):
    sentence = (
        "the capacity is {capacity} rows per expert, more than the {tokens} tokens of "
        "a group can fill: use at most {tokens}"
    )


class GroupsDoNotDivide(LayerError):
    sentence = "{tokens} tokens cannot be split into {groups} equal groups: {fix}"


class UnequalHalves(LayerError):
    sentence = (
        "a gated expert multiplies its gate and its up projection element by element, "
        "and they differ: {first} against {second}; give both weights the same last "
        "axis"
    )


class NotElementwise(LayerError):
    sentence = (
        "{name} is applied to rows of experts and is not elementwise: it uses "
        "'{primitive}'; rows may only meet functions that treat every element alone"
    )


class RowsMeetOthers(LayerError):
    sentence = (
        "{name} mixes rows of experts with {other}, which is not rows: rows may meet "
        "plain numbers and rows of the same dispatch; an expert's own vector is added "
        "by expert_bias, and numbers per choice become rows by dispatch_choices"
    )


class ValueUnknown(LayerError):
    sentence = (
        "the layer '{layer}' asks for the value of a tensor ({kind}), which is known "
        "only when the layer runs: {fix}"
    )


class UnsupportedFunction(LayerError):
    sentence = (
        "{name} uses '{primitive}', which a layer cannot contain; it may use "
        "elementwise functions, sums, means, maxima, reshapes, matrix products and "
        "the functions of moegen.lang"
    )


class IntegerActivation(LayerError):
    sentence = (
        "{op} takes floating-point rows, and got {got}: convert with .astype before "
        "the product, or drop the integer function"
    )


class MissingSize(LayerError):
    sentence = (
        "the layer '{layer}' needs the size '{size}': pass {size}=... (on the command "
        "line --set {size}=...)"
    )


class UnknownSize(LayerError):
    sentence = (
        "the layer '{layer}' has no size '{size}'; its sizes are {sizes}{nearest}"
    )


class SizeNotPositive(LayerError):
    sentence = "the size {size}={value} must be a positive whole number"


class WrongOptionType(LayerError):
    sentence = (
        "the option {size}={value} of the layer '{layer}' is {got}, and its default "
        "{default!r} is {expected}: pass {expected}"
    )


class DuplicateParameter(LayerError):
    sentence = (
        "the parameter '{name}' is declared twice, here and at {first}: give each "
        "parameter its own name"
    )


class DuplicateResult(LayerError):
    sentence = "the {kind} '{name}' is recorded twice, here and at {first}: rename one"


class CombineWithoutDispatch(LayerError):
    sentence = (
        "{op} takes rows that dispatch sent to experts, and got {got}, which no "
        "dispatch made: call dispatch(x, choice) first"
    )


class MixedDispatches(LayerError):
    sentence = (
        "{op} mixes rows of one dispatch ({first}) with the choice of another "
        "({second}): rows can only meet rows of their own dispatch"
    )


class UnusedResult(LayerError):
    sentence = (
        "the result of {op} is never used: return it, combine it, or delete the line"
    )


class NotALayer(LayerError):
    sentence = "{what}"


class LayerRaised(LayerError):
    sentence = "the layer '{layer}' raised {kind}: {reason}"


class IndexOverflow(LayerError):
    sentence = (
        "{what} would be numbered up to {count:,}, and numbers of 32 bits end at "
        "{limit:,}: {fix}"
    )


class IllegalSchedule(LayerError):
    sentence = (
        "the kernel {kernel} cannot run on {chip} with {field}={value}: {reason}; {fix}"
    )


class KernelTooLarge(LayerError):
    sentence = (
        "the kernel {kernel} needs {need} of {memory} on {chip}, and can have {limit}, "
        "with {schedule}; its largest buffer is the {largest}: {fix}"
    )


class OutsideLayer(LayerError):
    sentence = (
        "moegen.lang.{op} was called outside a layer that is being compiled: hand the "
        "layer function to moegen.compile, and call (or jit) the op that it returns"
    )


class InsideTransform(LayerError):
    sentence = (
        "moegen.lang.{op} was called in a function that JAX traces apart from the "
        "layer '{layer}' (by jax.jit, jax.vmap, jax.checkpoint, jax.lax.scan ...): "
        "call it in the layer itself, which is compiled as a whole and needs no jax.jit"
    )


class UnknownTarget(MoegenError):
    sentence = "there is no target '{target}'; the targets are {targets}{nearest}"


class UnsupportedByTarget(MoegenError):
    sentence = "the target '{target}' cannot run {what}: {reason}"


class UnknownScheduleField(MoegenError):
    sentence = (
        "the schedule sets '{name}', and no kernel of the layer for {target} has that; "
        "{have}"
    )


class UnreadableLayerFile(MoegenError):
    sentence = "the layer file {path} cannot be read: {reason}"


class LayerNotFound(MoegenError):
    sentence = "there is no layer '{name}' {place}; {have}{nearest}"


class UnwritableFolder(MoegenError):
    sentence = (
        "the output folder {path} cannot be written: {reason}; name another with {flag}"
    )


class UnreadableIR(MoegenError):
    sentence = "the IR cannot be read at {place}: {reason}"


class UnknownPass(MoegenError):
    sentence = "there is no pass '{name}'; the passes are {passes}{nearest}"


class UnknownPassOption(MoegenError):
    sentence = "the pass '{name}' has no option '{option}'; its options are {options}"


class BadPassOption(MoegenError):
    sentence = "the option {option}={value} of the pass '{name}' is not {expected}"


class IllegalIR(MoegenError):
    sentence = "{op} is not legal{after}: {reason}"

    def __init__(self, where: Where | None = None, **facts: Any) -> None:
        after = facts.get("after", "")
        super().__init__(where, **facts | {"after": f" {after}" if after else ""})


class MissingInput(MoegenError):
    sentence = "the layer '{layer}' needs the {what} '{name}' ({kind}): {fix}"


class UnknownInput(MoegenError):
    sentence = "the layer '{layer}' has no {kind} '{name}'; it takes {known}{nearest}"


class InputMismatch(MoegenError):
    sentence = (
        "the {kind} '{name}' of the layer '{layer}' must be {expected}, and is {got}: "
        "{fix}"
    )


class ExpertOutOfRange(MoegenError):
    sentence = (
        "expert ids must lie between -1 (dropped) and {last}, and '{name}' holds {id}"
    )


class CannotQuantise(LayerError):
    sentence = "{what} cannot be stored as {weights}: {reason}"


class NoGradient(MoegenError):
    sentence = (
        "the layer '{layer}' was compiled with {weights} weights, for inference, and "
        "has no gradient: compile it without weights to differentiate it"
    )


class CacheUnusable(MoegenError):
    sentence = (
        "the module cache {path} cannot be used: {reason}; name another folder with "
        "cache=... (on the command line {flag})"
    )


class BadArgument(MoegenError):
    sentence = "{reason}"


class UnknownChip(MoegenError):
    sentence = "there is no TPU '{chip}'; the chips are {chips}"


class NoTpuCompiler(MoegenError):
    sentence = (
        "the TPU compiler cannot run: {reason}; install it with "
        "pip install 'jax[tpu]' (no TPU is needed; Linux on x86_64 only){hint}"
    )


class UnreadableSource(MoegenError):
    sentence = "the source {path} to be compiled cannot be read: {reason}"


class DumpFailed(MoegenError):
    sentence = "libtpu made no schedule of {what}: {reason}"


class UnreadableBundles(MoegenError):
    """The text of a bundle dump is not what any known libtpu writes."""

    sentence = (
        "the bundle dump cannot be read: {reason}; dump it again with a supported "
        "libtpu (0.0.42 to 0.0.52), and report the line if that does not help"
    )


class UnknownInstruction(MoegenError):
    sentence = (
        "the simulator does not know the {kind} '{name}': its time on {chip} would be "
        "a guess; add it to backends/tpu/profile/units.json with its source"
    )


class UnknownScalar(MoegenError):
    sentence = (
        "{use} depends on a value that is known only at run time: {origin}; supply it "
        "in the scalars"
    )


class EndlessKernel(MoegenError):
    sentence = "the simulation was stopped: {reason}"


def nearest(name: str, known: list[str]) -> str:
    """`; did you mean '...'?` where a known name is close, else nothing."""
    from difflib import get_close_matches

    close = get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else ""
