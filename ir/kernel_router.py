"""The router's kernel op, and the ops that only its block programs hold."""

from ir.errors import IllegalIR, Where
from ir.moe.checks import Attributes, Operands, Results, check_choice, check_groups
from ir.op import Op
from ir.types import DYNAMIC, Tensor

ROUTER_OPERANDS = ("token", "group", "whole")
ROUTER_RESULTS = ("token", "group", "sum")
REDUCTIONS = ("add", "multiply", "maximum", "minimum", "and", "or")


class Router(Op):
    """A block program over tiles of tokens, in one pass: the router, or its backward.

    The tokens come in `groups` equal groups of consecutive ones. Operands have the
    kinds listed in `operands`: "token" [T] or [T, A] is a token's own (in the block
    [rows, 1] or [rows, A]), "group" [groups, A] that of its group ([A]), "whole" is
    read as it is: a matrix, a vector, or a number as [1]. Results are of kind "token"
    [T, A], or sums over tokens of what the block yields: "group" [groups, A] over each
    group's, "sum" [A] or [A, B] over all. A tile that reaches beyond the last token of
    a group adds only its own tokens.
    """

    OPERATION_NAME = "kernel.router"
    OPERANDS = ("operands ...",)
    RESULTS = ("results ...",)
    ATTRIBUTES = {
        "tokens": int,
        "groups": int,
        "narrow": list,
        "operands": list,
        "results": list,
        "shapes": list,
        "dtypes": list,
    }
    REGIONS = ("block program",)

    @classmethod
    def infer(
        cls, operands: Operands, attributes: Attributes, where: Where | None
    ) -> Results:
        check_groups(attributes["tokens"], attributes["groups"], where)
        shapes, dtypes = attributes["shapes"], attributes["dtypes"]
        made = [Tensor(tuple(s), d) for s, d in zip(shapes, dtypes, strict=True)]
        _check_kinds("operand", attributes["operands"], ROUTER_OPERANDS, operands)
        _check_kinds("result", attributes["results"], ROUTER_RESULTS, made)
        leading = {"token": attributes["tokens"], "group": attributes["groups"]}
        pairs = [
            *zip(attributes["operands"], operands, strict=True),
            *zip(attributes["results"], made, strict=True),
        ]
        for kind, tensor in pairs:
            size = leading.get(kind)
            if size is not None and tensor.shape[:1] != (size,):
                _refuse(f"'{kind}' is {tensor}, and has to begin with {size}", where)
        return tuple(made)


class RowReduce(Op):
    """In a block program: each row reduced by `by`, [rows, A] -> [rows, 1]."""

    OPERATION_NAME = "kernel.row_reduce"
    OPERANDS = ("a [rows, A]",)
    RESULTS = ("values [rows, 1]",)
    ATTRIBUTES = {"by": str}

    @classmethod
    def infer(
        cls, operands: Operands, attributes: Attributes, where: Where | None
    ) -> Results:
        (a,) = operands
        if attributes["by"] not in REDUCTIONS:
            _refuse(f"no reduction is called '{attributes['by']}'", where)
        return (Tensor((a.shape[0], 1), a.dtype),)


class Spread(Op):
    """In a block program: the same numbers on every row, [A] or [1] -> [rows, A]."""

    OPERATION_NAME = "kernel.spread"
    OPERANDS = ("values [A]",)
    RESULTS = ("rows [rows, A]",)
    ATTRIBUTES = {"width": int}

    @classmethod
    def infer(
        cls, operands: Operands, attributes: Attributes, where: Where | None
    ) -> Results:
        return (Tensor((DYNAMIC, attributes["width"]), operands[0].dtype),)


class Columns(Op):
    """In a block program: the columns from `start` to before `limit` of each row."""

    OPERATION_NAME = "kernel.columns"
    OPERANDS = ("a [rows, A]",)
    RESULTS = ("columns [rows, limit - start]",)
    ATTRIBUTES = {"start": int, "limit": int}

    @classmethod
    def infer(
        cls, operands: Operands, attributes: Attributes, where: Where | None
    ) -> Results:
        (a,) = operands
        start, limit = attributes["start"], attributes["limit"]
        if not 0 <= start < limit <= a.shape[1]:
            _refuse(f"columns {start} to {limit} are not within {a}", where)
        return (Tensor((a.shape[0], limit - start), a.dtype),)


class Count(Op):
    """In a block program: how many of a row's choices each expert has; -1 is none's."""

    OPERATION_NAME = "kernel.count"
    OPERANDS = ("choice i32[rows, K]",)
    RESULTS = ("counts i32[rows, E]",)
    ATTRIBUTES = {"experts": int}

    @classmethod
    def infer(
        cls, operands: Operands, attributes: Attributes, where: Where | None
    ) -> Results:
        (choice,) = operands
        check_choice("count", choice, where)
        return (Tensor((choice.shape[0], attributes["experts"]), "int32"),)


def _check_kinds(
    what: str, kinds: list[str], known: tuple[str, ...], tensors: Operands
) -> None:
    if len(kinds) != len(tensors) or set(kinds) - set(known):
        _refuse(f"{what} kinds {kinds} do not fit {len(tensors)} {what}s", None)


def _refuse(reason: str, where: Where | None) -> None:
    raise IllegalIR(where, op="the router's block program", after="", reason=reason)
