"""What is right: runs a module's function in float64 NumPy, in the plainest way.

Every backend, every stage of the compiler and every gradient is compared with this
interpreter, so it follows the docstrings of `ir.moe` and `ir.kernel` word by word and
shares no code with what it judges. Every float is a float64, whatever the types say;
integers keep their own width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ir import mlir
from ir.errors import BadArgument, nearest
from ir.interpret.arrays import Array, in_float64
from ir.interpret.blocks import Frame, run_block
from ir.types import from_mlir

__all__ = ["Run", "interpret"]


@dataclass(frozen=True)
class Run:
    """What a function returned, and how narrowly it chose its experts.

    `margins[n]` belongs to the n-th op that chooses, in the order in which they run:
    of `moe.top_k` the smallest gap between consecutive sorted scores of each token,
    down to the border of its k choices, [T]; of `moe.expert_choice` the smallest gap
    at any expert's border, []. It is inf where there was no other candidate, and where
    a NaN or an infinity decided.
    """

    results: list[Array]
    margins: dict[int, Array]


def interpret(module: mlir.Module, function: str, arguments: Sequence[Array]) -> Run:
    """Run one function of a module on arrays; bfloat16 and the like become exact."""
    block = mlir.entry(_find(module, function))
    given = _check_arguments(function, block, arguments)
    frame = Frame()
    with np.errstate(all="ignore"):
        results = run_block(block, given, frame)
    return Run(results, frame.margins)


def _find(module: mlir.Module, function: str) -> mlir.OpView:
    functions = mlir.functions(module)
    if function in functions:
        return functions[function]
    known = list(functions)
    have = f"its functions are {', '.join(known)}" if known else "it has none"
    hint = nearest(function, known)
    reason = f"the module has no function '{function}'; {have}{hint}"
    raise BadArgument(reason=reason)


def _check_arguments(
    function: str, block: mlir.Block, arguments: Sequence[Array]
) -> list[Array]:
    kinds = [from_mlir(value.type) for value in block.arguments]
    if len(kinds) != len(arguments):
        reason = f"'{function}' takes {len(kinds)} arguments, and got {len(arguments)}"
        raise BadArgument(reason=reason)
    given = [in_float64(a, k) for a, k in zip(arguments, kinds, strict=True)]
    for index, (array, kind) in enumerate(zip(given, kinds, strict=True)):
        if array.shape != kind.shape:
            sizes = list(array.shape)
            raise BadArgument(
                reason=f"argument {index} of '{function}' is {kind}, and got {sizes}"
            )
    return given
